#!/bin/sh
# Make sure that Chromium is there for the console's tests: on Debian, root installs the package; others read what to do.
set -eu

for name in chromium chromium-browser google-chrome-stable google-chrome; do
    if command -v "$name" >/dev/null; then
        exit 0
    fi
done
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "installing Chromium for the console's tests (once)"
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium >/dev/null
    exit 0
fi
echo "the console's tests need Chromium: on Debian, 'sudo apt install chromium'; elsewhere, install Chromium or Chrome" >&2
exit 1
