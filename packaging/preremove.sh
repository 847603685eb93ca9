#!/bin/sh
# Stops the server before its binary goes; an upgrade restarts it afterwards instead.
set -e
if [ "$1" = remove ] && [ -d /run/systemd/system ]; then
	systemctl disable --now sallyport-ssh.socket sallyport-web.socket sallyport-radius.socket sallyport-radius-accounting.socket \
		sallyport-radsec.socket sallyport.service
fi
