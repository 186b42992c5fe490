"""A node of ROS 2 that publishes masks of an image topic.

Beside `/camera/image_raw` it publishes `/camera/image_raw/mask` (mono8: class ids), with a gate
`…/presence` (a probability for each class), and while somebody listens `…/overlay` (rgb8). It was
not run on ROS: the tests drive it with a stand-in for rclpy. It needs a Python that has both:

    python3 node.py --ros-args -p bundle:=BUNDLE -p topic:=/camera/image_raw
"""

from array import array

import rclpy
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image
from std_msgs.msg import Float32MultiArray

import edgeunet
from edgeunet.runtime.frames import SourceFrame
from edgeunet.runtime.sources.ros_messages import image_fields, mask_fields, mask_topic, picture_of


class Segment(Node):
    """Segments the newest image; those that come while it is busy are dropped."""

    def __init__(self):
        super().__init__("edgeunet")
        self.topic = self.declare_parameter("topic", "/image").value
        bundle = self.declare_parameter("bundle", "bundle").value
        self.segmenter = edgeunet.load(bundle, checked=True)
        place = mask_topic(self.topic).removesuffix("mask")
        self.masks = self.create_publisher(Image, f"{place}mask", 1)
        self.presence = self.create_publisher(Float32MultiArray, f"{place}presence", 1)
        self.overlays = self.create_publisher(Image, f"{place}overlay", 1)
        newest = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
        self.create_subscription(Image, self.topic, self.segment, newest)

    def segment(self, message):
        """Publish the results of an image; one that cannot be read is told of."""
        try:
            picture = picture_of(message, name=self.topic)
            frame = SourceFrame(0, "", picture.pixels, channels=picture.channels)
            result = self.segmenter.segment(frame)
        except edgeunet.EdgeUNetError as error:
            self.get_logger().error(str(error), throttle_duration_sec=5.0)
            return
        self.masks.publish(image(mask_fields(result.mask), message.header))
        if result.presence is not None:
            self.presence.publish(Float32MultiArray(data=result.presence.tolist()))
        if self.overlays.get_subscription_count():
            self.overlays.publish(image(image_fields(result.overlay(), "rgb8"), message.header))


def image(fields, header):
    """A message; ROS takes the bytes of an array as they are, and checks each of other types."""
    return Image(header=header, **{**fields, "data": array("B", fields["data"].tobytes())})


rclpy.init()
rclpy.spin(Segment())
