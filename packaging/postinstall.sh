#!/bin/sh
# Makes the user that the server runs as and the folders that are its own. Keys, configuration and data stay
# when the package goes.
set -e
if ! getent passwd sallyport >/dev/null; then
	adduser --system --group --quiet --home /var/lib/sallyport --no-create-home --gecos "Sallyport bastion" sallyport
fi
for dir in /etc/sallyport /var/lib/sallyport; do
	[ -d "$dir" ] || install -d -m 0700 -o sallyport -g sallyport "$dir"
done
if [ -d /run/systemd/system ]; then
	systemctl daemon-reload
	# A server that runs gets the new version; sessions are told and drained.
	systemctl try-restart sallyport.service
fi
if [ ! -e /etc/sallyport/sallyport.yaml ]; then
	echo "Now: runuser -u sallyport -- sallyport init, then: systemctl enable --now sallyport"
fi
