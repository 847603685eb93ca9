#!/bin/sh
# Fetches the scripts of the pages that are not our own, as the lock file names them with their hashes,
# and puts them where the binary embeds them from. Nothing of what was fetched is run. Without Node the
# build goes on: every page works, and the replay page says what is missing.
set -eu
cd "$(dirname "$0")/.."
vendor=admin/static/vendor
stamp=$vendor/.fetched
axe=portal/testdata/axe.min.js # looks for what keeps people from using a page; for tests only
want=$(cat package-lock.json scripts/assets.sh | sha256sum | cut -d' ' -f1)

if [ "$(cat "$stamp" 2>/dev/null)" = "$want" ] && [ -f "$axe" ]; then
	exit 0
fi
if ! command -v npm >/dev/null; then
	echo "assets: npm is not installed, so recordings will be shown as text only; install nodejs and npm, then: make assets" >&2
	exit 0
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp package.json package-lock.json .npmrc "$work/"
(cd "$work" && npm ci --ignore-scripts --no-audit --no-fund --silent)

from=$work/node_modules/asciinema-player
for file in asciinema-player.min.js asciinema-player.css; do
	install -m 644 "$from/dist/bundle/$file" "$vendor/$file"
done
mkdir -p "$(dirname "$axe")"
install -m 644 "$work/node_modules/axe-core/axe.min.js" "$axe"
install -m 644 "$from/LICENSE" "$vendor/asciinema-player.LICENSE.txt"
echo "$want" >"$stamp"
