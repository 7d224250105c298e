"""What an Android app gets: package, assets, Kotlin, adb."""
