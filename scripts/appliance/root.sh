# Sourced by enter and boot with their arguments: sets root, and state, which it gives to the user of the service, unless
# it is mounted read-only. With fewer arguments than $least it shows the head of the script, and where something is wrong
# it says so: both end it.
name=$(basename "$0")
if [ $# -lt "$least" ]; then
    sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "$0" >&2
    exit 2
fi
root=$(realpath "$1") state=$(realpath "$2")
[ -x "$root/opt/musetalk-edge/bin/musetalk-edge" ] || { echo "$name: error: $root: no appliance's root" >&2; exit 2; }
[ "$(id -u)" = 0 ] || { echo "$name: error: only root can mount: use sudo" >&2; exit 3; }
[ ! -w "$state" ] || chown -R "$(awk -F: '$1 == "musetalk-edge" { print $3 ":" $4 }' "$root/etc/passwd")" "$state"
