"""An RTSP server, GStreamer's, for Debian's Python: `rtsp_server.py PIPELINE [PORT [PASSWORD]]`.

PIPELINE ends in a payloader pay0; it starts anew for each client, at rtsp://127.0.0.1:PORT/live.
PORT 0 takes a free one; the port is printed once clients may come. The user's name is `user`.
"""

import sys

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer  # noqa: E402


def protect(server, factory, password):
    token = GstRtspServer.RTSPToken()
    token.set_string("media.factory.role", "user")
    auth = GstRtspServer.RTSPAuth.new()
    auth.add_basic(GstRtspServer.RTSPAuth.make_basic("user", password), token)
    permissions = GstRtspServer.RTSPPermissions.new()
    permissions.add_role("user")
    permissions.add_permission_for_role("user", "media.factory.access", True)
    permissions.add_permission_for_role("user", "media.factory.construct", True)
    factory.set_permissions(permissions)
    server.set_auth(auth)


def main(pipeline, port="0", password=""):
    Gst.init(None)
    server = GstRtspServer.RTSPServer.new()
    server.set_address("127.0.0.1")
    server.set_service(port)
    factory = GstRtspServer.RTSPMediaFactory.new()
    factory.set_launch(f"( {pipeline} )")
    if password:
        protect(server, factory, password)
    server.get_mount_points().add_factory("/live", factory)
    server.attach(None)
    print(server.get_bound_port(), flush=True)
    GLib.MainLoop().run()


main(*sys.argv[1:])
