#!/bin/sh
# Stops the server before its binary goes; an upgrade restarts it afterwards instead.
set -e
if [ "$1" = remove ] && [ -d /run/systemd/system ]; then
	systemctl disable --now sallyport-ssh.socket sallyport-web.socket sallyport.service
fi
