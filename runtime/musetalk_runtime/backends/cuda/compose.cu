// The project's own kernels: gather what the UNet reads, and compose its faces onto the avatar's frames.
//
// Both run inside a CUDA graph, so their arguments never change: what differs from batch to batch lies in the items,
// an array in device memory. Frames are NV12, uint8 [H * 3 / 2, W], H and W even, BT.709 in limited range.
//
// The arithmetic is that of the CPU compositor, rounding for rounding: bilinear weights in 1/2048, colours in 1/1024.

struct Item {                     // one frame of a batch; 64 bytes, as in item.py
    const unsigned char* frame;   // the avatar's frame
    unsigned char* output;        // the finished frame; null: nothing to do
    const unsigned char* mask;    // [MASK, MASK] over the box: 255 takes the face, 0 keeps the frame
    const unsigned short* latents;  // half [latent_count]
    const void* tokens;           // [token_count], of the UNet's type
    int face;                     // row in the UNet's batch; -1: the frame is shown as it is
    float weight;                 // of the face, in [0, 1]
    int x0, y0, x1, y1;           // the face's box in pixels, ends excluded; may leave the frame
};

struct Tap {  // two neighbours along one axis, and their weights in 1/2048
    int first, second, a, b;
};

constexpr int MASK = 64;
constexpr int STRIP = 16;  // bytes of a row that one thread makes

__device__ inline float to_float(unsigned short half) {  // infinity and NaN become 65536 and more
    float magnitude = __uint_as_float((half & 0x7fffu) << 13) * 5.192296858534828e33f;
    return half & 0x8000u ? -magnitude : magnitude;
}

__device__ inline float to_float(float value) { return value; }

template <typename T>
__device__ inline int level(T value) {  // of [0, 1] in 8 bits
    return (int)fminf(fmaxf(floorf(to_float(value) * 255.0f + 0.5f), 0.0f), 255.0f);
}

__device__ inline int clamp(int value, int size) { return value < 0 ? 0 : value < size ? value : size - 1; }

__device__ inline Tap tap(int at, int length, int size, bool horizontal) {
    float place = (float)((at + 0.5) * (1.0 / ((double)length / size)) - 0.5);
    int first = (int)floorf(place);
    float share = place - first;
    if (horizontal && (first < 0 || first >= size - 1)) share = 0.0f;
    return {clamp(first, size), clamp(first + 1, size), (int)rintf((1.0f - share) * 2048.0f), (int)rintf(share * 2048.0f)};
}

__device__ inline int between(Tap x, Tap y, int p00, int p01, int p10, int p11) {
    int above = (p00 * x.a + p01 * x.b) >> 4, below = (p10 * x.a + p11 * x.b) >> 4;
    return (((y.a * above) >> 16) + ((y.b * below) >> 16) + 2) >> 2;
}

template <typename T>
__device__ inline int sample(const T* plane, int size, Tap x, Tap y) {
    const T *above = plane + y.first * size, *below = plane + y.second * size;
    return between(x, y, level(above[x.first]), level(above[x.second]), level(below[x.first]), level(below[x.second]));
}

__device__ inline int opacity(const Item& item, int x, int y) {
    if (x < item.x0 || x >= item.x1 || y < item.y0 || y >= item.y1) return 0;
    Tap column = tap(x - item.x0, item.x1 - item.x0, MASK, true);
    Tap row = tap(y - item.y0, item.y1 - item.y0, MASK, false);
    const unsigned char *above = item.mask + row.first * MASK, *below = item.mask + row.second * MASK;
    int alpha = between(column, row, above[column.first], above[column.second], below[column.first], below[column.second]);
    return (int)rintf(alpha * item.weight);
}

__device__ inline unsigned char blend(int under, int over, int alpha) {
    int difference = over - under;
    int scaled = difference * alpha + 127 + (difference < 0);
    return (unsigned char)(under + (scaled + 65536 * 255) / 255 - 65536);  // rounded down, also below 0
}

// Two by two pixels from (x, y) on, and their chroma.
template <typename T>
__device__ void compose_quad(const Item& item, const T* face, int size, int width, int height, int x, int y) {
    int u = 0, v = 0, whole = 255;
    for (int pixel = 0; pixel < 4; ++pixel) {
        int px = x + (pixel & 1), py = y + (pixel >> 1), at = py * width + px;
        int alpha = opacity(item, px, py);
        whole = alpha < whole ? alpha : whole;
        if (!alpha) {
            item.output[at] = item.frame[at];
            continue;
        }
        Tap column = tap(px - item.x0, item.x1 - item.x0, size, true);
        Tap row = tap(py - item.y0, item.y1 - item.y0, size, false);
        int r = sample(face, size, column, row);
        int g = sample(face + size * size, size, column, row);
        int b = sample(face + 2 * size * size, size, column, row);
        u += (-103 * r - 347 * g + 450 * b + 131072 + 512) >> 10;
        v += (450 * r - 409 * g - 41 * b + 131072 + 512) >> 10;
        item.output[at] = blend(item.frame[at], (187 * r + 629 * g + 63 * b + 16384 + 512) >> 10, alpha);
    }
    int at = (height + y / 2) * width + x;
    item.output[at] = whole ? blend(item.frame[at], (int)rintf(u * 0.25f), whole) : item.frame[at];
    item.output[at + 1] = whole ? blend(item.frame[at + 1], (int)rintf(v * 0.25f), whole) : item.frame[at + 1];
}

__device__ inline void copy_strip(const Item& item, int at, int count) {
    const unsigned char* from = item.frame + at;
    unsigned char* to = item.output + at;
    if (count == STRIP && ((unsigned long long)from | (unsigned long long)to) % STRIP == 0) {
        *(uint4*)to = *(const uint4*)from;
        return;
    }
    for (int byte = 0; byte < count; ++byte) to[byte] = from[byte];
}

// Grid: strips of two rows by STRIP pixels in x, items in y.
template <typename T>
__device__ void compose(const Item* items, const T* faces, int size, int width, int height) {
    const Item item = items[blockIdx.y];
    int strips = (width + STRIP - 1) / STRIP;
    int index = blockIdx.x * blockDim.x + threadIdx.x;
    if (!item.output || index >= strips * (height / 2)) return;
    int x = index % strips * STRIP, y = index / strips * 2;
    int end = x + STRIP < width ? x + STRIP : width;
    if (item.face >= 0 && x < item.x1 && end > item.x0 && y < item.y1 && y + 2 > item.y0) {
        const T* face = faces + (long long)item.face * 3 * size * size;
        for (; x < end; x += 2) compose_quad(item, face, size, width, height, x, y);
        return;
    }
    copy_strip(item, y * width + x, end - x);
    copy_strip(item, (y + 1) * width + x, end - x);
    copy_strip(item, (height + y / 2) * width + x, end - x);
}

__device__ inline void store(unsigned short* to, unsigned short half) { *to = half; }
__device__ inline void store(float* to, unsigned short half) { *to = to_float(half); }

// Grid: any number of blocks in x, items in y.
template <typename T>
__device__ void gather(const Item* items, T* latents, T* tokens, int latent_count, int token_count) {
    const Item item = items[blockIdx.y];
    if (!item.output || item.face < 0) return;
    int start = blockIdx.x * blockDim.x + threadIdx.x, step = gridDim.x * blockDim.x;
    for (int at = start; at < latent_count; at += step) {
        store(latents + (long long)item.face * latent_count + at, item.latents[at]);
    }
    for (int at = start; at < token_count; at += step) {
        tokens[(long long)item.face * token_count + at] = ((const T*)item.tokens)[at];
    }
}

extern "C" __global__ void compose_half(const Item* items, const unsigned short* faces, int size, int width, int height) {
    compose(items, faces, size, width, height);
}

extern "C" __global__ void compose_float(const Item* items, const float* faces, int size, int width, int height) {
    compose(items, faces, size, width, height);
}

extern "C" __global__ void gather_half(
    const Item* items, unsigned short* latents, unsigned short* tokens, int latent_count, int token_count) {
    gather(items, latents, tokens, latent_count, token_count);
}

extern "C" __global__ void gather_float(
    const Item* items, float* latents, float* tokens, int latent_count, int token_count) {
    gather(items, latents, tokens, latent_count, token_count);
}
