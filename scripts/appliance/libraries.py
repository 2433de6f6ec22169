"""Native libraries that wheels hold: how each is recognised, where it tells its version, its licence and its CPE."""

from dataclasses import dataclass

GPL_OR_LGPL = "LGPL-3.0-or-later OR GPL-2.0-or-later"
GCC = "GPL-3.0-or-later WITH GCC-exception-3.1"


@dataclass(frozen=True)
class Library:
    """A product. `files` is a pattern of its files' names, without ``lib`` and what follows the name.

    `version` is a pattern of what the file says. `cpe` is vendor and
    product, as the National Vulnerability Database names them.
    """

    name: str
    files: str
    licence: str
    cpe: str = ""
    version: bytes = b""


LIBRARIES = (
    Library("ffmpeg", r"av(codec|device|filter|format|util)|sw(resample|scale)", "LGPL-2.1-or-later", "ffmpeg:ffmpeg",
        rb"FFmpeg version n?(\d[\w.]*)"),
    Library("x264", "x264", "GPL-2.0-or-later", "videolan:x264"),
    Library("x265", "x265", "GPL-2.0-or-later", "multicorewareinc:x265_high_efficiency_video_coding",
        rb"\0(\d\.\d+\+\d+-\w+)\0"),
    Library("openh264", "openh264", "BSD-2-Clause", "cisco:openh264"),
    Library("dav1d", "dav1d", "BSD-2-Clause", "videolan:dav1d"),
    Library("svt-av1", "SvtAv1Enc", "BSD-3-Clause-Clear", "", rb"\0v(\d+\.\d+\.\d+)\0"),
    Library("libaom", "aom", "BSD-2-Clause", "aomedia:aomedia", rb"AV1 Encoder (\d[\w.]*)"),
    Library("libavif", "avif", "BSD-2-Clause", "aomedia:libavif", rb"\0(1\.\d+\.\d+)\0"),
    Library("libvpx", "vpx", "BSD-3-Clause", "webmproject:libvpx", rb"VP9 Decoder v(\d[\w.]*)"),
    Library("opus", "opus", "BSD-3-Clause", "opus-codec:opus", rb"libopus (\d[\w.]*)"),
    Library("lame", "mp3lame", "LGPL-2.0-or-later", "lame_project:lame", rb"LAME(\d[\d.]*)"),
    Library("opencore-amr", r"opencore-amr.*", "Apache-2.0"),
    Library("libwebp", "webp(mux|demux)?|sharpyuv", "BSD-3-Clause", "webmproject:libwebp"),
    Library("libpng", "png16", "libpng-2.0", "libpng:libpng", rb"libpng version (\d[\w.]*)"),
    Library("gnutls", "gnutls", "LGPL-2.1-or-later", "gnu:gnutls", rb"\0(3\.\d+\.\d+)\0"),
    Library("nettle", "nettle|hogweed", GPL_OR_LGPL, "nettle_project:nettle"),
    Library("gmp", "gmp", GPL_OR_LGPL, "gmplib:gmp", rb"\0(6\.\d+\.\d+)\0"),
    Library("libunistring", "unistring", GPL_OR_LGPL, "gnu:libunistring"),
    Library("openssl", "crypto|ssl", "Apache-2.0", "openssl:openssl", rb"OpenSSL (\d\.\d+\.\d+[a-z]?)"),
    Library("alsa-lib", "asound", "LGPL-2.1-or-later", "alsa-project:alsa", rb"\0(1\.\d+\.\d+)\0"),
    Library("libvpl", "vpl", "MIT"),
    Library("vmaf", "vmaf", "BSD-2-Clause-Patent"),
    Library("libdrm", "drm", "MIT", "freedesktop:libdrm"),
    Library("libxcb", "xcb(-.*)?", "MIT", "x:libxcb"),
    Library("libxau", "Xau", "MIT-open-group", "x:libxau"),
    Library("openblas", r"(scipy_)?openblas.*", "BSD-3-Clause", "openblas_project:openblas", rb"OpenBLAS (\d[\d.]*)"),
    Library("gcc-runtime", "gfortran|gomp|stdc\\+\\+|gcc_s", GCC, "gnu:gcc"),
    Library("libquadmath", "quadmath", "LGPL-2.1-or-later"),
    Library("cudart", "cudart", "LicenseRef-NVIDIA-CUDA-EULA", "nvidia:cuda_toolkit"),
)  # fmt: skip
OWN = r"onnxruntime.*|nvinfer.*|tensorrt.*|nvonnx.*|cuda_.*"  # what a wheel is about

LINKED_IN = (  # into a module, which says so
    Library("libjpeg-turbo", "", "IJG AND BSD-3-Clause AND Zlib", "libjpeg-turbo:libjpeg-turbo",
        rb"JPEG: +build-libjpeg-turbo \(ver (\d[\d.]*)"),
    Library("zlib", "", "Zlib", "zlib:zlib", rb"ZLIB: +build \(ver (\d[\w.]*)"),
    Library("libpng", "", "libpng-2.0", "libpng:libpng", rb"PNG: +build \(ver (\d[\d.]*)"),
    Library("libtiff", "", "libtiff", "libtiff:libtiff", rb"TIFF: +build \(ver \d+ - (\d[\d.]*)"),
    Library("libwebp", "", "BSD-3-Clause", "", rb"WEBP: +build \(ver .*?encoder: (0x\w+)"),
    Library("openjpeg", "", "BSD-2-Clause", "uclouvain:openjpeg", rb"JPEG 2000: +build \(ver (\d[\d.]*)"),
    Library("protobuf", "", "BSD-3-Clause", "google:protobuf", rb"Protobuf: +build \((\d[\d.]*)"),
    Library("flatbuffers", "", "Apache-2.0", "google:flatbuffers", rb"Flatbuffers: +builtin/3rdparty \((\d[\d.]*)"),
    Library("intel-ipp", "", "Intel Simplified Software License", "", rb"Intel IPP: +(\d[\d.]*)"),
    *(
        Library(name, "", licence, cpe, rb"vcpkg/buildtrees/%s/src/v?(\w[\w.]*)-\w+\.clean" % port.encode())
        for port, name, licence, cpe in (
            ("abseil", "abseil-cpp", "Apache-2.0", "abseil:common_libraries"),
            ("mbedtls", "mbedtls", "Apache-2.0 OR GPL-2.0-or-later", "arm:mbed_tls"),
            ("onnx", "onnx", "Apache-2.0", "linuxfoundation:onnx"),
            ("protobuf", "protobuf", "BSD-3-Clause", "google:protobuf"),
            ("re2", "re2", "BSD-3-Clause", "google:re2"),
        )
    ),
)  # fmt: skip
