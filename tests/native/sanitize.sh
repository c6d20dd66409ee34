#!/bin/sh
# Builds a driver for each library of native code with sanitizers, and runs it with one, two and three threads.
# A library is a file fmnist/speed/NAME.c or a folder fmnist/speed/NAME/; its driver is tests/native/NAME.c.
set -eu
cd "$(dirname "$0")/../.."
out=build/sanitize
fixed="setarch -R" # older ThreadSanitizers find no room in a process whose memory lies at random addresses
$fixed true 2> /dev/null || fixed=
mkdir -p $out

# drive NAME SUFFIX FLAGS SOURCES...
drive() {
    name=$1 suffix=$2 flags=$3
    shift 3
    for kind in address,undefined thread; do
        program=$out/$name$suffix-${kind%,*}
        # shellcheck disable=SC2086  # the flags are words
        ${CC:-cc} -g -O1 -Wall -Wextra -fopenmp -fno-omit-frame-pointer $flags -fsanitize=$kind \
            -fno-sanitize-recover=all "tests/native/$name.c" "$@" tests/native/omp.c -lm -o "$program"
        for threads in 1 2 3; do OMP_NUM_THREADS=$threads $fixed "$program"; done
    done
}

for source in fmnist/speed/*.c; do
    drive "$(basename "$source" .c)" "" "" # which includes the source
done
for folder in fmnist/speed/*/; do # compiled for each set of instructions
    set -- "$folder"*.c
    test -e "$1" || continue
    drive "$(basename "$folder")" "" "" "$@"
    test "$(uname -m)" = x86_64 || continue
    drive "$(basename "$folder")" _avx2 "-march=x86-64-v3" "$@"
    drive "$(basename "$folder")" _avx512 "-march=x86-64-v4" "$@"
done
