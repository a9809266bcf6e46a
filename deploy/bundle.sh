#!/usr/bin/env bash
# One tar for a machine without a network: the project, its wheels for this platform and Python, the weights, every hash.
#
#   deploy/bundle.sh PYTHON FOLDER [flag of pip ...]      what `make bundle OUT=FOLDER PIP_ARGS=...` runs
#
# The other machine needs the same kind of processor and the same Python, with venv, and make; a GPU's driver where it has one.
set -euo pipefail
python=$(realpath --no-symlinks "$1")
folder=$(realpath "$2")
shift 2
cd "$(dirname "${BASH_SOURCE[0]}")/.."

name=$("$python" -c 'import sys, sysconfig; print("hilum-py%d%d-%s" % (*sys.version_info[:2], sysconfig.get_platform()))')
stage=$(mktemp --directory "$folder/.bundle-XXXXXX")
trap 'rm -rf "$stage"' EXIT
hilum="$stage/hilum"
mkdir -p "$hilum/wheels" "$hilum/weights"

"$python" -m pip download --only-binary :all: --dest "$hilum/wheels" --requirement requirements.txt "$@"

# Named one by one, so that nobody's .env, runs or notes travel along.
tar --create --exclude=__pycache__ \
    app.py chat vision finetune models benchmarks deploy \
    Makefile requirements.txt requirements-dev.txt pyproject.toml LICENSE README.md ARCHITECTURE.md .env.example \
    | tar --extract --directory "$hilum"

llava=weights/llava-1.5-7b-nf4
if [ -e "$llava" ]; then
    "$python" -m chat.engine.checkpoint verify "$llava"
    cp --archive --link "$llava" "$hilum/weights/" 2>/dev/null || cp --archive "$llava" "$hilum/weights/"
else
    echo "There is no $llava (make model): the bundle answers with the embedded model." >&2
fi

cat >"$hilum/INSTALL" <<END
On the machine without a network, beside $name.tar:

    tar -xf $name.tar && cd hilum
    sha256sum --check --quiet SHA256SUMS
    make run PIP_ARGS="--no-index --find-links wheels"
END
(cd "$hilum" && find . -type f ! -name SHA256SUMS -print0 | sort --zero-terminated | xargs --null sha256sum >SHA256SUMS)

tar --create --file "$stage/$name.tar" --owner=0 --group=0 --directory "$stage" hilum
mv "$stage/$name.tar" "$folder/$name.tar"
cat "$hilum/INSTALL"
echo "$(du --human-readable --apparent-size "$folder/$name.tar" | cut --fields=1) in $folder/$name.tar"
