# Sockets between guest and host, by socat: data to an echo of the host and back, with the end of each
# direction; a port of the host on which nobody listens; a service for host programs, until the host has
# seen enough.
dd if=/dev/urandom of=/tmp/data bs=64k count=48 2>/dev/null
printf 'odd' >>/tmp/data
socat -t 600 - VSOCK-CONNECT:2:50 </tmp/data >/tmp/back || echo "PURLIN-FAIL echo"
cmp /tmp/data /tmp/back && echo "PURLIN-OK echo"
socat -u VSOCK-CONNECT:2:77 STDOUT 2>&1 | grep -q 'reset by peer' && echo "PURLIN-OK refused"
for number in 1 2 3 4 5 6 7 8; do
    echo "$number" | socat -t 600 - VSOCK-CONNECT:2:50 >"/tmp/back$number" &
    clients="$clients $!"
done
wait $clients
echo "PURLIN-MANY $(cat /tmp/back[1-8] | tr '\n' ' ')"
socat -t 600 VSOCK-LISTEN:52,fork EXEC:cat &
# The host waits for this before it connects.
echo "PURLIN-READY vsock"
echo "PURLIN-HOST $(socat -u VSOCK-CONNECT:2:51 STDOUT)"
