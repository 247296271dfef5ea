#!/usr/bin/env bash
# The data and weights of a configuration and a mode, without a network connection:
#     bash test_tipc/prepare.sh CONFIG MODE [ARCHIVE or FOLDER of images with train_list.txt and val_list.txt]
set -euo pipefail
python=$(sed -n 's/^python://p' "${1:?a configuration is missing}" | head -n 1)
exec ${python:-python} -m mobilenext.tipc prepare "$@"
