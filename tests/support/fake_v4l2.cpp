// A V4L2 camera /dev/video77 of 64x48 YUYV, for LD_PRELOAD: FFmpeg's own reader runs on it.
// EDGEUNET_V4L2 says what each frame is, anew with each opening: f fine, e damaged; and then: u it is
// unplugged, h it hangs. Frame n (from 0) has brightness 16 + 10 n.

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/videodev2.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

namespace {

constexpr int width = 64, height = 48, frame_bytes = 2 * width * height, room = 8192, buffers = 4;

int camera = -1;
bool nonblocking;
const char* script;
int frame, first, last, waiting[buffers + 1];
unsigned char* memory;

int fail(int code) {
    errno = code;
    return -1;
}

int plug_in(int flags) {
    camera = memfd_create("camera", 0);
    if (camera < 0 || ftruncate(camera, room * buffers) < 0) return -1;
    void* mapped = mmap(nullptr, room * buffers, PROT_READ | PROT_WRITE, MAP_SHARED, camera, 0);
    memory = static_cast<unsigned char*>(mapped);
    nonblocking = (flags & O_NONBLOCK) != 0;
    script = getenv("EDGEUNET_V4L2");
    frame = first = last = 0;
    return camera;
}

int open_any(const char* name, const char* path, int flags, mode_t mode) {
    if (strcmp(path, "/dev/video77") == 0) return plug_in(flags);
    using Open = int (*)(const char*, int, ...);
    return reinterpret_cast<Open>(dlsym(RTLD_NEXT, name))(path, flags, mode);
}

int format(v4l2_format* asked, bool set) {
    v4l2_pix_format& pixels = asked->fmt.pix;
    if (set && pixels.pixelformat != V4L2_PIX_FMT_YUYV) return fail(EINVAL);
    pixels.width = width;
    pixels.height = height;
    pixels.pixelformat = V4L2_PIX_FMT_YUYV;
    pixels.field = V4L2_FIELD_NONE;
    pixels.bytesperline = 2 * width;
    pixels.sizeimage = frame_bytes;
    return 0;
}

int dequeue(v4l2_buffer* buffer) {
    const char what = script[frame];
    if (what == 'u') return fail(ENODEV);
    if (what == 'h' && nonblocking) return fail(EAGAIN);
    while (what == 'h') pause();
    if (first == last) return fail(EAGAIN);
    buffer->index = waiting[first];
    first = (first + 1) % (buffers + 1);
    buffer->flags = what == 'e' ? V4L2_BUF_FLAG_ERROR : 0;
    buffer->bytesused = what == 'e' ? 0 : frame_bytes;
    unsigned char* pixels = memory + room * buffer->index;
    for (int i = 0; i < frame_bytes; i += 2) {
        pixels[i] = static_cast<unsigned char>(16 + 10 * frame);
        pixels[i + 1] = 128;
    }
    buffer->timestamp.tv_sec = 1 + frame;
    ++frame;
    return 0;
}

int answer(unsigned long request, void* data) {
    switch (request) {
    case VIDIOC_QUERYCAP:
        static_cast<v4l2_capability*>(data)->capabilities =
            V4L2_CAP_VIDEO_CAPTURE | V4L2_CAP_STREAMING;
        return 0;
    case VIDIOC_ENUMINPUT: return static_cast<v4l2_input*>(data)->index ? fail(EINVAL) : 0;
    case VIDIOC_G_INPUT: *static_cast<int*>(data) = 0; return 0;
    case VIDIOC_G_FMT: return format(static_cast<v4l2_format*>(data), false);
    case VIDIOC_S_FMT: return format(static_cast<v4l2_format*>(data), true);
    case VIDIOC_G_PARM:
    case VIDIOC_S_PARM:
        static_cast<v4l2_streamparm*>(data)->parm.capture.timeperframe = {1, 30};
        return 0;
    case VIDIOC_REQBUFS: static_cast<v4l2_requestbuffers*>(data)->count = buffers; return 0;
    case VIDIOC_QUERYBUF: {
        v4l2_buffer* buffer = static_cast<v4l2_buffer*>(data);
        buffer->length = room;
        buffer->m.offset = room * buffer->index;
        return 0;
    }
    case VIDIOC_QBUF:
        waiting[last] = static_cast<int>(static_cast<v4l2_buffer*>(data)->index);
        last = (last + 1) % (buffers + 1);
        return 0;
    case VIDIOC_DQBUF: return dequeue(static_cast<v4l2_buffer*>(data));
    case VIDIOC_STREAMON:
    case VIDIOC_STREAMOFF: return 0;
    default: return fail(EINVAL);
    }
}

}  // namespace

extern "C" {

int open(const char* path, int flags, ...) {
    va_list rest;
    va_start(rest, flags);
    const mode_t mode = va_arg(rest, mode_t);
    va_end(rest);
    return open_any("open", path, flags, mode);
}

int open64(const char* path, int flags, ...) {
    va_list rest;
    va_start(rest, flags);
    const mode_t mode = va_arg(rest, mode_t);
    va_end(rest);
    return open_any("open64", path, flags, mode);
}

int ioctl(int file, unsigned long request, ...) noexcept {
    va_list rest;
    va_start(rest, request);
    void* data = va_arg(rest, void*);
    va_end(rest);
    if (file >= 0 && file == camera) return answer(request & 0xffffffffUL, data);
    using Ioctl = int (*)(int, unsigned long, ...);
    return reinterpret_cast<Ioctl>(dlsym(RTLD_NEXT, "ioctl"))(file, request, data);
}
}
