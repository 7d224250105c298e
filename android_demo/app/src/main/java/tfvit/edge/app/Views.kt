package tfvit.edge.app

import android.app.Activity
import android.view.View

/** A view of the screen's layout. */
internal inline fun <reified T : View> Activity.view(id: Int): T = window.decorView.view(id)

/** A view inside this one. */
internal inline fun <reified T : View> View.view(id: Int): T {
    val found: View = findViewById(id)
    return found as T
}
