"""Android: the package an app gets, the folder it goes to, the Kotlin to paste, and phones through adb."""
