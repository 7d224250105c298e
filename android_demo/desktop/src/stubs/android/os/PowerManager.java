package android.os;

/** What the app uses of it, API 29 included. */
public final class PowerManager {
    public native int getCurrentThermalStatus();
}
