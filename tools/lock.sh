#!/bin/sh
# Compile locks/*.txt from the groups of pyproject.toml: exact versions and hashes, no host names (docs/adr/0002).
# Called by `./run lock`. The development lock is solved first; the others may only take versions from it.
set -eu
compile() { "$1" pip compile pyproject.toml --group "$2" --python-version 3.11 --generate-hashes --no-header --no-annotate --no-emit-index-url -q ${3:+-c "$3"} -o "locks/$2.txt" "${4:---upgrade}"; }
uv=$1
compile "$uv" dev
for group in edge server tools; do compile "$uv" "$group" locks/dev.txt; done
# The verifier's second opinion has an environment of its own: it needs a cbor2 that ours must not have.
printf 'cwt>=3.3\n' | "$uv" pip compile - --python-version 3.11 --generate-hashes --no-header --no-annotate --no-emit-index-url -q --upgrade -o tools/verifier/oracle.txt
