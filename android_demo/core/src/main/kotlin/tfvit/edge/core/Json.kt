package tfvit.edge.core

/** JSON that is not what was expected; the message starts with the path of the value, `$` for the document. */
class JsonException(message: String) : Exception(message)

/**
 * A JSON value and where it stands, so that every error can say which value is wrong.
 *
 * Values are Kotlin's own: null, Boolean, Double, Long, String, List, Map (in the order of the text).
 */
class JsonValue(val path: String, private val value: Any?) {
    val isNull: Boolean
        get() = value == null

    val isList: Boolean
        get() = value is List<*>

    fun string(): String = value as? String ?: expected("a string")

    fun boolean(): Boolean = value as? Boolean ?: expected("true or false")

    fun number(): Double =
        when (value) {
            is Double -> value
            is Long -> value.toDouble()
            else -> expected("a number")
        }

    fun long(): Long = value as? Long ?: expected("a whole number")

    fun int(): Int = long().let { if (it in Int.MIN_VALUE..Int.MAX_VALUE) it.toInt() else expected("a whole number of 32 bits") }

    fun list(): List<JsonValue> =
        (value as? List<*> ?: expected("an array")).mapIndexed { index, item -> JsonValue("$path[$index]", item) }

    fun keys(): Set<String> = fields().keys

    /** The member [name], which must be there. */
    operator fun get(name: String): JsonValue {
        val fields = fields()
        if (name !in fields) throw JsonException("$path.$name: missing")
        return JsonValue("$path.$name", fields[name])
    }

    /** The member [name], or null where it is missing or null. */
    fun optional(name: String): JsonValue? = fields()[name]?.let { JsonValue("$path.$name", it) }

    fun fail(message: String): Nothing = throw JsonException("$path: $message")

    @Suppress("UNCHECKED_CAST")
    private fun fields(): Map<String, Any?> = value as? Map<String, Any?> ?: expected("an object")

    private fun expected(what: String): Nothing = fail("expected $what. Received: ${Json.write(value).take(SHOWN_CHARS)}")

    private companion object {
        const val SHOWN_CHARS = 60
    }
}

/** Reads and writes JSON as RFC 8259 has it, and nothing more lenient. */
object Json {
    /** Of a text that is read. */
    const val MAX_CHARS = 4 shl 20
    const val MAX_DEPTH = 32

    fun read(text: String): JsonValue {
        if (text.length > MAX_CHARS) throw JsonException("$: at most $MAX_CHARS characters. Received: ${text.length}")
        return JsonValue("$", Reader(text).document())
    }

    /** [value] is null, Boolean, Int, Long, Float, Double, String, List or Map of such. [indent]: spaces of a level; 0 for one line. */
    fun write(value: Any?, indent: Int = 0): String = StringBuilder().also { Writer(it, indent).value(value, 0) }.toString()
}

private class Reader(private val text: String) {
    private var at = 0

    fun document(): Any? {
        val value = value(0)
        space()
        if (at < text.length) fail("nothing more")
        return value
    }

    private fun value(depth: Int): Any? {
        if (depth > Json.MAX_DEPTH) throw JsonException("$: nested more than ${Json.MAX_DEPTH} deep")
        space()
        return when (peek()) {
            '{' -> map(depth)
            '[' -> list(depth)
            '"' -> string()
            't' -> word("true", true)
            'f' -> word("false", false)
            'n' -> word("null", null)
            else -> number()
        }
    }

    private fun map(depth: Int): Map<String, Any?> {
        val fields = LinkedHashMap<String, Any?>()
        at++
        space()
        if (take('}')) return fields
        do {
            space()
            if (peek() != '"') fail("a name in quotes")
            val name = string()
            if (name in fields) throw JsonException("$: the name \"$name\" twice in one object")
            space()
            if (!take(':')) fail("a colon")
            fields[name] = value(depth + 1)
            space()
        } while (take(','))
        if (!take('}')) fail("a comma or }")
        return fields
    }

    private fun list(depth: Int): List<Any?> {
        val items = ArrayList<Any?>()
        at++
        space()
        if (take(']')) return items
        do {
            items += value(depth + 1)
            space()
        } while (take(','))
        if (!take(']')) fail("a comma or ]")
        return items
    }

    private fun string(): String {
        val found = StringBuilder()
        at++
        while (true) {
            if (at >= text.length) fail("a closing quote")
            val character = text[at++]
            when {
                character == '"' -> return found.toString()
                character == '\\' -> found.append(escaped())
                character < ' ' -> fail("control characters escaped")
                else -> found.append(character)
            }
        }
    }

    private fun escaped(): Char {
        val escape = peek()
        at++
        return when (escape) {
            '"', '\\', '/' -> escape
            'b' -> '\b'
            'f' -> '\u000C'
            'n' -> '\n'
            'r' -> '\r'
            't' -> '\t'
            'u' -> {
                val digits = text.substring(at, minOf(at + 4, text.length))
                if (!HEX.matches(digits)) fail("four hexadecimal digits")
                at += 4
                digits.toInt(16).toChar()
            }
            else -> fail("an escape of JSON")
        }
    }

    private fun number(): Any {
        val found = NUMBER.find(text, at)?.takeIf { it.range.first == at } ?: fail("a value")
        at = found.range.last + 1
        val isWhole = found.value.none { it == '.' || it == 'e' || it == 'E' }
        return (if (isWhole) found.value.toLongOrNull() else null)
            ?: found.value.toDouble().also { if (it.isInfinite()) fail("a number that a double can hold") }
    }

    private fun word(word: String, value: Any?): Any? {
        if (!text.startsWith(word, at)) fail("a value")
        at += word.length
        return value
    }

    private fun peek(): Char = if (at < text.length) text[at] else fail("a value")

    private fun take(character: Char): Boolean = (at < text.length && text[at] == character).also { if (it) at++ }

    private fun space() {
        while (at < text.length && text[at] in " \t\n\r") at++
    }

    private fun fail(expected: String): Nothing {
        val line = text.take(at).count { it == '\n' } + 1
        val received = if (at < text.length) "\"${text.substring(at, minOf(at + 20, text.length)).substringBefore('\n')}\"" else "the end of the text"
        throw JsonException("$: not JSON: expected $expected in line $line. Received: $received")
    }

    private companion object {
        val NUMBER = Regex("-?(0|[1-9][0-9]*)(\\.[0-9]+)?([eE][+-]?[0-9]+)?")
        val HEX = Regex("[0-9a-fA-F]{4}")
    }
}

private class Writer(private val out: StringBuilder, private val indent: Int) {
    fun value(value: Any?, depth: Int) {
        when (value) {
            null, is Boolean, is Int, is Long -> out.append(value)
            is Float, is Double -> {
                val number = (value as Number).toDouble()
                require(number.isFinite()) { "JSON has no $number" }
                out.append(value)
            }
            is String -> string(value)
            is List<*> -> members('[', ']', value, depth) { value(it, depth + 1) }
            is Map<*, *> ->
                members('{', '}', value.entries, depth) { (name, member) ->
                    string(name as String)
                    out.append(if (indent > 0) ": " else ":")
                    value(member, depth + 1)
                }
            else -> throw IllegalArgumentException("no JSON for ${value::class.java.name}")
        }
    }

    private fun <T> members(open: Char, close: Char, items: Collection<T>, depth: Int, write: (T) -> Unit) {
        out.append(open)
        for ((index, item) in items.withIndex()) {
            if (index > 0) out.append(',')
            newLine(depth + 1)
            write(item)
        }
        if (items.isNotEmpty()) newLine(depth)
        out.append(close)
    }

    private fun newLine(depth: Int) {
        if (indent > 0) out.append('\n').append(" ".repeat(indent * depth))
    }

    private fun string(text: String) {
        out.append('"')
        for (character in text) {
            when {
                character == '"' || character == '\\' -> out.append('\\').append(character)
                character == '\n' -> out.append("\\n")
                character < ' ' || character.isSurrogate() -> out.append("\\u").append(character.code.toString(16).padStart(4, '0'))
                else -> out.append(character)
            }
        }
        out.append('"')
    }
}
