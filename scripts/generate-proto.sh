#!/bin/bash
# Turns every src/*/proto/*.proto into plain JavaScript with types beside it (protons writes TypeScript namespaces, which Node's
# type stripping does not run). The results are committed; run this after a change to a .proto file. Arguments: the files, all if none.
set -euo pipefail
cd "$(dirname "$0")/.."
[ $# -gt 0 ] || set -- src/*/proto/*.proto
for proto in "$@"; do
  [ -e "$proto" ] || continue
  folder=$(dirname "$proto"); name=$(basename "$proto" .proto)
  npx --no-install protons "$proto" --output "$folder"
  npx --no-install tsc --ignoreConfig "$folder/$name.ts" --outDir "$folder" --declaration --target ES2024 --module NodeNext --moduleResolution NodeNext \
    --types node --skipLibCheck --strict
  rm "$folder/$name.ts"
done
