package tfvit.edge

import org.junit.Assert.assertEquals
import org.junit.Assert.assertThrows
import org.junit.Assert.assertTrue
import org.junit.Test
import tfvit.edge.core.Json
import tfvit.edge.core.JsonException

class JsonTest {
    @Test
    fun readsWhatItWrites() {
        val document = mapOf("text" to "a\"\\\n\u0001é😀", "numbers" to listOf(1L, -2.5, 1e-7), "nothing" to null, "empty" to listOf<Any>(), "is" to true)
        for (indent in listOf(0, 2)) {
            val read = Json.read(Json.write(document, indent))
            assertEquals("a\"\\\n\u0001é😀", read["text"].string())
            assertEquals(listOf(1.0, -2.5, 1e-7), read["numbers"].list().map { it.number() })
            assertTrue(read["nothing"].isNull)
            assertEquals(0, read["empty"].list().size)
            assertTrue(read["is"].boolean())
        }
    }

    @Test
    fun errorsNameThePath() {
        val document = Json.read("""{"models": [{"size": "large"}]}""")
        val wrong = assertThrows(JsonException::class.java) { document["models"].list()[0]["size"].int() }
        assertEquals("$.models[0].size: expected a whole number. Received: \"large\"", wrong.message)
        val missing = assertThrows(JsonException::class.java) { document["models"].list()[0]["name"] }
        assertEquals("$.models[0].name: missing", missing.message)
    }

    @Test
    fun refusesWhatIsNotJson() {
        val texts =
            listOf("", "{", "[1,]", "{\"a\":1,}", "{a:1}", "01", "1.", "+1", "NaN", "'a'", "\"a", "\"\\x\"", "\"\\u12g4\"", "\"a\nb\"", "[1] 2", "1e999") +
                listOf("{\"a\":1,\"a\":2}", "[".repeat(40) + "]".repeat(40), "[" + " ".repeat(Json.MAX_CHARS) + "]")
        for (text in texts) assertThrows("accepted ${text.take(30)}", JsonException::class.java) { Json.read(text) }
    }

    @Test
    fun refusesNumbersThatJsonHasNot() {
        assertThrows(IllegalArgumentException::class.java) { Json.write(Double.NaN) }
    }
}
