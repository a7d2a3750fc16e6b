# shellcheck shell=sh
# After uplink.sh: in the world there is a name server, 198.51.100.1, for which every name is 198.51.100.200, and
# a web server there, with a repository for apt.
mkdir /run/www
echo the world >/run/www/index.html
printf 'Package: leopard\nVersion: 4.2\nArchitecture: all\nFilename: ./leopard.deb\nSize: 1\n\n' >/run/www/Packages
sum() { echo "SHA256:"; echo " $(sha256sum /run/www/Packages | cut -d ' ' -f 1) $(wc -c </run/www/Packages) Packages"; }
{ echo "Date: $(LC_ALL=C date -u '+%a, %d %b %Y %H:%M:%S UTC')"; sum; } >/run/www/Release
cat >/run/world.py <<'END'
import functools, http.server, socket, socketserver, threading
names = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
names.bind(("198.51.100.1", 53))
files = functools.partial(http.server.SimpleHTTPRequestHandler, directory="/run/www")
web = socketserver.ThreadingTCPServer(("198.51.100.200", 80), files)
threading.Thread(target=web.serve_forever).start()
open("/run/ready", "w").close()
while True:
    asked, client = names.recvfrom(512)
    end = asked.index(b"\0", 12) + 5 # the question: a name, type and class
    is_a = asked[end - 4:end - 2] == b"\0\1"
    head = asked[:2] + b"\x81\x80\0\1" + (b"\0\1" if is_a else b"\0\0") + b"\0\0\0\0"
    answer = b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4" + bytes([198, 51, 100, 200])
    names.sendto(head + asked[12:end] + (answer if is_a else b""), client)
END
world python3 /run/world.py >/run/log 2>&1 &
until [ -e /run/ready ]; do sleep 0.02; done
