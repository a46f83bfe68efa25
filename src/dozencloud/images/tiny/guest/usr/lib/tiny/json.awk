# Flattens a JSON document: one line "path<TAB>value" for each value, path parts joined by dots.
# Line breaks and tabs inside a value become spaces.

{ text = text $0 "\n" }

END { value("") }

function token() {
    sub(/^[ \t\r\n]+/, "", text)
    if (match(text, /^"([^"\\]|\\.)*"/) || match(text, /^[-+.0-9A-Za-z]+/) || match(text, /^[^"]/)) {
        found = substr(text, 1, RLENGTH)
        text = substr(text, RLENGTH + 1)
        return found
    }
    exit 1
}

function value(path,    item, name, count) {
    item = token()
    if (item == "{") {
        while ((name = token()) != "}") {
            if (name == ",") continue
            token() # the colon
            value(path (path == "" ? "" : ".") plain(name))
        }
    } else if (item == "[") {
        for (count = 0; text !~ /^[ \t\r\n]*\]/; ) {
            if (text ~ /^[ \t\r\n]*,/) { token(); continue }
            value(path "." count++)
        }
        token()
    } else
        print path "\t" plain(item)
}

function plain(item,    out, code) {
    if (item !~ /^"/) return item
    item = substr(item, 2, length(item) - 2)
    out = ""
    while (match(item, /\\(u[0-9a-fA-F][0-9a-fA-F][0-9a-fA-F][0-9a-fA-F]|.)/)) {
        code = substr(item, RSTART + 1, RLENGTH - 1)
        out = out substr(item, 1, RSTART - 1) escape(code)
        item = substr(item, RSTART + RLENGTH)
    }
    out = out item
    gsub(/[\t\r\n]/, " ", out)
    sub(/ +$/, "", out)
    return out
}

function escape(code,    number, i) {
    if (code ~ /^[nrtbf]$/) return " "
    if (code !~ /^u..../) return code
    number = 0
    for (i = 2; i <= 5; i++)
        number = number * 16 + index("0123456789abcdef", tolower(substr(code, i, 1))) - 1
    if (number < 32) return " "
    if (number < 128) return sprintf("%c", number)
    return "?" # names, keys and passwords that matter here are ASCII
}
