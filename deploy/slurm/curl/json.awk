# Print a JSON string in ASCII; input: the bytes of its text as numbers, from `od -An -v -tu1`.
# Bytes that are not UTF-8 become U+FFFD.

function print_unit(code) {
    printf "\\u%04x", code
}

# Return the code point at byte i, and set `size` to its number of bytes.
function code_point(i,   lead, code, k) {
    lead = byte[i]
    size = 1
    if (lead < 128) return lead
    size = lead < 194 ? 1 : lead < 224 ? 2 : lead < 240 ? 3 : lead < 245 ? 4 : 1
    code = size == 2 ? lead - 192 : size == 3 ? lead - 224 : lead - 240
    for (k = 1; k < size; k++) {
        if (i + k >= count || byte[i + k] < 128 || byte[i + k] > 191) break
        code = code * 64 + byte[i + k] - 128
    }
    # Truncated, overlong, a surrogate, or too large.
    if (size == 1 || k < size || size == 3 && (code < 2048 || code >= 55296 && code < 57344) || \
            size == 4 && (code < 65536 || code > 1114111)) {
        size = 1
        return 65533
    }
    return code
}

{ for (field = 1; field <= NF; field++) byte[count++] = $field + 0 }

END {
    printf "\""
    for (i = 0; i < count; i += size) {
        code = code_point(i)
        if (code == 34 || code == 92) printf "\\%c", code
        else if (code > 31 && code < 127) printf "%c", code
        else if (code < 65536) print_unit(code)
        else {
            print_unit(55296 + int((code - 65536) / 1024))
            print_unit(56320 + (code - 65536) % 1024)
        }
    }
    printf "\""
}
