# check_symbols.sh NM OBJECT...: fails unless each object file of lane kernels defines one symbol for the linker, its table. An inline
# function left in one would be code that only some processors can run, offered to the whole program.
nm=$1
shift
seen=0
for object; do
  case $object in
    */lane*_avx2.*|*/lane*_avx512.*|*/lane*_baseline.*) ;;
    */fused_avx2.*|*/fused_avx512.*|*/fused_baseline.*) ;;
    */chunks_avx2.*|*/chunks_avx512.*|*/chunks_baseline.*) ;;
    *) continue ;;
  esac
  seen=$((seen + 1))
  shared=$("$nm" --defined-only --extern-only "$object" | grep -v ' [DdRr] .*tapegrad\(5lanes\)*[0-9]*k[A-Z]')
  if [ -n "$shared" ]; then
    echo "$object: $shared" >&2
    exit 1
  fi
done
[ "$seen" = 15 ] || { echo "found $seen files of kernels, not 15" >&2; exit 1; }
