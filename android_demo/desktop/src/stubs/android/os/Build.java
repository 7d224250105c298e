package android.os;

/** What the app uses of it, API 31 included. */
public class Build {
    public static String HARDWARE, MANUFACTURER, MODEL, PRODUCT, SOC_MANUFACTURER, SOC_MODEL;
    public static String[] SUPPORTED_ABIS;

    public static class VERSION {
        public static int SDK_INT;
        public static String RELEASE;
    }

    public static class VERSION_CODES {
        public static final int Q = 29, S = 31;
    }
}
