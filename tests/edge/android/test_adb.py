"""Where adb is, what it prints and what its failures mean; each failure of a whole run: test_device.py."""

import pytest

from edge.android import adb
from edge.android.adb import AdbError, Device, Output, choose, failure, find_adb, parse_devices
from tests.edge.scripted_adb import PLUGDEV
from tfvit.errors import EnvironmentUnusableError


def test_where_adb_is_looked_for(tmp_path):
    tools = {}
    for name in ("path", "home/platform-tools", "root/platform-tools"):
        (tmp_path / name).mkdir(parents=True)
        tools[name] = tmp_path / name / "adb"
        tools[name].write_text("#!/bin/sh\n")
        tools[name].chmod(0o755)
    sdk = {"ANDROID_HOME": str(tmp_path / "home"), "ANDROID_SDK_ROOT": str(tmp_path / "root"), "PATH": str(tmp_path)}
    assert find_adb(None, {**sdk, "PATH": str(tmp_path / "path")}) == str(tools["path"])
    assert find_adb(None, sdk) == str(tools["home/platform-tools"])
    assert find_adb(None, {"ANDROID_SDK_ROOT": sdk["ANDROID_SDK_ROOT"]}) == str(tools["root/platform-tools"])
    assert find_adb(tools["root/platform-tools"], sdk) == str(tools["root/platform-tools"])
    with pytest.raises(EnvironmentUnusableError):
        find_adb(tmp_path, sdk)


def test_devices_are_parsed():
    text = (
        "* daemon not running; starting now at tcp:5037\n* daemon started successfully\nList of devices attached\n"
        "R5CT30ABCDE            device usb:1-1 product:beyond1 model:SM_G973F device:beyond1 transport_id:3\r\n"
        "emulator-5554          offline transport_id:1\n"
        "127.0.0.1:5701         unauthorized transport_id:1\n"
        "adb-X-y._adb-tls-connect._tcp device product:p model:Pixel_7 device:panther transport_id:9\n"
        f"0123\t{PLUGDEV} usb:1-2 transport_id:4\n"
        "ABC\tno permissions (missing udev rules? user is in the plugdev group)\n\n"
    )
    assert parse_devices(text) == [
        Device("R5CT30ABCDE", "device", "SM G973F"),
        Device("emulator-5554", "offline"),
        Device("127.0.0.1:5701", "unauthorized"),
        Device("adb-X-y._adb-tls-connect._tcp", "device", "Pixel 7"),
        Device("0123", "no permissions"),
        Device("ABC", "no permissions"),
    ]
    for nothing in ("", "List of devices attached\n\n", "garbage", "List of devices attached\nlonely\n"):
        assert parse_devices(nothing) == []


def test_the_ready_one_is_chosen_among_unready_ones():
    devices = [Device("a", "offline"), Device("b", "device"), Device("c", "unauthorized")]
    assert choose(devices).serial == "b"
    with pytest.raises(AdbError) as caught:
        choose(devices, "c")
    assert caught.value.kind == "unauthorized"


@pytest.mark.parametrize(
    ("stdout", "stderr", "kind"),
    [
        ("", "error: no devices/emulators found", adb.NONE),
        ("", "error: more than one device/emulator", adb.SEVERAL),
        ("", "error: device unauthorized.\nThis adb server's $ADB_VENDOR_KEYS is not set", adb.UNAUTHORIZED),
        ("adb: error: failed to get feature set: device still authorizing", "", adb.UNAUTHORIZED),
        ("adb: error: failed to get feature set: device 'FOO' not found", "", adb.GONE),
        ("adb: error: failed to get feature set: device offline", "", adb.OFFLINE),
        ("", "error: insufficient permissions for device: user in plugdev group; are your udev rules wrong?", adb.NO_PERMISSIONS),
        ("", "error: protocol fault (couldn't read status): Success", adb.LOST),
        ("", "* daemon not running; starting now at tcp:5037\nADB server didn't ACK\n* failed to start daemon", adb.SERVER),
        ("", "cat: /sdcard/device offline: No such file or directory", None),
        ("device 'X' not found is what the file says", "", None),
        ("adb: error: failed to stat remote object '/sdcard/x': No such file or directory", "", None),
    ],
)
def test_what_failures_mean(stdout, stderr, kind):
    assert failure(Output(1, stdout, stderr)) == kind
    assert failure(Output(0, stdout, stderr)) is None
