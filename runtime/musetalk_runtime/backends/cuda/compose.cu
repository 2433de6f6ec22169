// The project's own kernels: gather what the UNet reads, match its faces with the avatar's frames, and compose them.
//
// All run inside a CUDA graph, so their arguments never change: what differs from batch to batch lies in the items,
// an array in device memory. Frames are NV12, uint8 [H * 3 / 2, W], H and W even, BT.709 in limited range.
//
// The arithmetic is that of the CPU compositor (backends/ort), in single precision and rounded once, at the end.

struct Item {                     // one frame of a batch; 80 bytes, as in item.py
    const unsigned char* frame;   // the avatar's frame
    unsigned char* output;        // the finished frame; null: nothing to do
    const unsigned char* mask;    // [MASK, MASK] over the box: 255 takes the face, 0 keeps the frame
    const unsigned short* latents;  // half [latent_count]
    const void* tokens;           // [token_count], of the UNet's type
    int face;                     // row in the UNet's batch; -1: the frame is shown as it is
    float weight;                 // of the face, in [0, 1]
    int x0, y0, x1, y1;           // the face's box in pixels, ends excluded; may leave the frame
    const unsigned short* base;   // luma of the base layer [size, size] in 1/STEPS, then of each cell, as unsigned
                                  // chars, U, V and the ring; null: the face is shown as it was generated
    float sharpening;             // how much of what is fine is added where there is no detail
    int unused;
};

struct Place {  // between two neighbours along one axis
    int first;
    float share;  // of the second
};

constexpr int MASK = 64;
constexpr int STRIP = 16;  // bytes of a row that one thread makes
constexpr int CELL = 4;
constexpr float STEPS = 256.0f;
constexpr float FIXED = 1024.0f;  // colours are summed in integers: floats would add up differently from run to run
constexpr float KR = 0.2126f, KB = 0.0722f, KG = 1.0f - KR - KB;
constexpr float LUMA = 219.0f / 255.0f, CHROMA = 112.0f / 255.0f;
constexpr float BLACK = 16.0f, DIM = 8.0f, MAX_GAIN = 1.25f, MAX_SHIFT = 16.0f, SAME = 12.0f;
constexpr float LEAST_SAME = 1.0f / 8.0f;
constexpr float ALIKE = 2.0f, UNLIKE = 6.0f;  // levels
constexpr int MATCH_BLOCKS = 32;  // of an item, in each kernel that matches

__device__ inline float to_float(unsigned short half) {  // infinity and NaN become 65536 and more
    float magnitude = __uint_as_float((half & 0x7fffu) << 13) * 5.192296858534828e33f;
    return half & 0x8000u ? -magnitude : magnitude;
}

__device__ inline float to_float(float value) { return value; }

template <typename T>
__device__ inline float level(T value) {  // of [0, 1] in 8 bits
    return fminf(fmaxf(floorf(to_float(value) * 255.0f + 0.5f), 0.0f), 255.0f);
}

__device__ inline int clamp(int value, int size) { return value < 0 ? 0 : value < size ? value : size - 1; }

__device__ inline float within(float value, float least, float most) { return fminf(fmaxf(value, least), most); }

__device__ inline Place place(int at, int length, int size) {
    float exact = fmaf(at + 0.5f, (float)size / length, -0.5f);
    int first = (int)floorf(exact);
    return {first, exact - first};
}

template <typename T>
__device__ inline float linear(const T* plane, int size, Place x, Place y) {
    const T *above = plane + clamp(y.first, size) * size, *below = plane + clamp(y.first + 1, size) * size;
    int left = clamp(x.first, size), right = clamp(x.first + 1, size);
    float top = above[left] + (above[right] - (float)above[left]) * x.share;
    float bottom = below[left] + (below[right] - (float)below[left]) * x.share;
    return top + (bottom - top) * y.share;
}

// Keys' cubic convolution with a = -0.75, as OpenCV has it.
__device__ inline void cubic_weights(float t, float* weights) {
    constexpr float A = -0.75f;
    float s = 1.0f - t;
    weights[0] = ((A * (t + 1.0f) - 5.0f * A) * (t + 1.0f) + 8.0f * A) * (t + 1.0f) - 4.0f * A;
    weights[1] = ((A + 2.0f) * t - (A + 3.0f)) * t * t + 1.0f;
    weights[2] = ((A + 2.0f) * s - (A + 3.0f)) * s * s + 1.0f;
    weights[3] = 1.0f - weights[0] - weights[1] - weights[2];
}

template <typename T>
__device__ inline float cubic(const T* plane, int size, Place x, Place y) {
    float across[4], down[4], sum = 0.0f;
    cubic_weights(x.share, across);
    cubic_weights(y.share, down);
    for (int row = 0; row < 4; ++row) {
        const T* line = plane + clamp(y.first - 1 + row, size) * size;
        float along = 0.0f;
        for (int column = 0; column < 4; ++column) along += line[clamp(x.first - 1 + column, size)] * across[column];
        sum += along * down[row];
    }
    return sum;
}

// Colours of a face and of its base layer, added up over cells.
struct Sums {
    unsigned long long y, base_y, u, v, base_u, base_v, count;

    __device__ static void sum(unsigned long long* to, float value) {
        atomicAdd(to, (unsigned long long)(fmaxf(value, 0.0f) * FIXED + 0.5f));
    }

    __device__ void add_luma(float of_face, float of_base) {
        sum(&y, of_face);
        sum(&base_y, of_base);
        atomicAdd(&count, 1ull);
    }

    __device__ void add_chroma(float face_u, float face_v, float of_base_u, float of_base_v) {
        sum(&u, face_u);
        sum(&v, face_v);
        sum(&base_u, of_base_u);
        sum(&base_v, of_base_v);
    }

    // By all threads of a block: `parts`, of MATCH_BLOCKS blocks, together.
    __device__ void add(const Sums* parts) {
        for (int part = threadIdx.x; part < MATCH_BLOCKS; part += blockDim.x) {
            const Sums& of = parts[part];
            atomicAdd(&y, of.y);
            atomicAdd(&base_y, of.base_y);
            atomicAdd(&u, of.u);
            atomicAdd(&v, of.v);
            atomicAdd(&base_u, of.base_u);
            atomicAdd(&base_v, of.base_v);
            atomicAdd(&count, of.count);
        }
    }

    __device__ float mean(unsigned long long of) const { return count ? (float)((double)of / count / FIXED) : 0.0f; }

    __device__ float gain() const { return fmaxf(mean(base_y) - BLACK, DIM) / fmaxf(mean(y) - BLACK, DIM); }
};

// A face as it is composed: planes of float, and what it was matched by.
struct Matched {
    Sums *ring, *same;              // [MATCH_BLOCKS]; of the cells in the ring, and of those that are alike
    float *raw, *luma, *u, *v;      // [size, size]; luma is raw, sharpened
    float *low, *high;              // [size, size]; the extremes around each pixel of raw, where there is sharpening
    float *cells, *base, *weights;  // [size / CELL, size / CELL]; the luma of both, and how alike they are
    float* shift;                   // of u and v

    __device__ Matched(float* rows, int face, int size) {
        long long area = (long long)size * size, count = (size / CELL) * (size / CELL);
        constexpr int FLOATS = 2 * MATCH_BLOCKS * sizeof(Sums) / sizeof(float);
        float* row = rows + face * (FLOATS + 6 * area + 3 * count + 4);
        ring = (Sums*)row;
        same = ring + MATCH_BLOCKS;
        raw = row + FLOATS;
        luma = raw + area;
        u = luma + area;
        v = u + area;
        low = v + area;
        high = low + area;
        cells = high + area;
        base = cells + count;
        weights = base + count;
        shift = weights + count;
    }
};

__device__ inline float cell_mean(const float* plane, int size, int cell) {
    const float* corner = plane + cell / (size / CELL) * CELL * size + cell % (size / CELL) * CELL;
    float sum = 0.0f;
    for (int at = 0; at < CELL * CELL; ++at) sum += corner[at / CELL * size + at % CELL];
    return sum / (CELL * CELL);
}

__device__ inline float cell_mean(const unsigned short* plane, int size, int cell) {
    const unsigned short* corner = plane + cell / (size / CELL) * CELL * size + cell % (size / CELL) * CELL;
    int sum = 0;
    for (int at = 0; at < CELL * CELL; ++at) sum += corner[at / CELL * size + at % CELL];
    return sum / (CELL * CELL * STEPS);
}

// The neighbour of (x, y), mirrored at the edge without repeating it.
__device__ inline float mirrored(const float* plane, int size, int x, int y) {
    x = x < 0 ? -x : x < size ? x : 2 * size - 2 - x;
    y = y < 0 ? -y : y < size ? y : 2 * size - 2 - y;
    return plane[y * size + x];
}

__device__ inline void sharpen(const Matched& face, int size, int at, float amount) {
    int x = at % size, y = at / size, count = size / CELL;
    float share = linear(face.weights, count, place(x, size, count), place(y, size, count));
    float own = face.raw[at], blurred = 0.0f, least = own, most = own;
    for (int dy = -1; dy <= 1; ++dy) {
        for (int dx = -1; dx <= 1; ++dx) {
            float beside = mirrored(face.raw, size, x + dx, y + dy);
            blurred += beside * ((dx ? 0.25f : 0.5f) * (dy ? 0.25f : 0.5f));
            least = fminf(least, beside);
            most = fmaxf(most, beside);
        }
    }
    face.luma[at] = own + (own - blurred) * ((1.0f - share) * amount);
    face.low[at] = least;
    face.high[at] = most;
}

// How the luma of a face becomes its frame's.
struct Level {
    float gain, offset;
    bool told;  // by enough cells

    __device__ Level(const Sums& ring, const Sums& same)
        : told(same.count && same.count >= LEAST_SAME * ring.count) {
        gain = told ? within(same.gain(), 1.0f / MAX_GAIN, MAX_GAIN) : 1.0f;
        offset = BLACK * (1.0f - gain);
    }
};

// Matching: match_half or match_float, then match_colours, match_levels and match_details, each in a grid of
// MATCH_BLOCKS blocks in x and items in y. See MatchedFace of backends/ort. First the planes, and sums over the ring.
template <typename T>
__device__ void match(const Item* items, const T* faces, float* rows, int size) {
    __shared__ Sums sums;
    const Item item = items[blockIdx.y];
    if (!item.output || item.face < 0) return;
    int start = blockIdx.x * blockDim.x + threadIdx.x, step = MATCH_BLOCKS * blockDim.x;
    int area = size * size, count = size / CELL, cells = count * count;
    Matched face(rows, item.face, size);
    const T* red = faces + (long long)item.face * 3 * area;
    const unsigned char* ring = (const unsigned char*)(item.base + area) + 2 * cells;
    if (threadIdx.x == 0) sums = {};
    if (start == 0) face.shift[0] = face.shift[1] = 0.0f;
    __syncthreads();
    for (int cell = start; cell < cells; cell += step) {
        int corner = cell / count * CELL * size + cell % count * CELL;
        for (int pixel = 0; pixel < CELL * CELL; ++pixel) {
            int at = corner + pixel / CELL * size + pixel % CELL;
            float r = level(red[at]), g = level(red[at + area]), b = level(red[at + 2 * area]);
            float luma = KR * r + KG * g + KB * b;
            face.raw[at] = face.luma[at] = luma * LUMA + BLACK;
            face.u[at] = (b - luma) * (CHROMA / (1.0f - KB)) + 128.0f;
            face.v[at] = (r - luma) * (CHROMA / (1.0f - KR)) + 128.0f;
        }
        if (!item.base) continue;
        face.cells[cell] = cell_mean(face.raw, size, cell);
        face.base[cell] = cell_mean(item.base, size, cell);
        if (ring[cell]) sums.add_luma(face.cells[cell], face.base[cell]);
    }
    __syncthreads();
    if (threadIdx.x == 0) face.ring[blockIdx.x] = sums;
}

// Sums over those cells of the ring that are alike.
extern "C" __global__ void match_colours(const Item* items, float* rows, int size) {
    __shared__ Sums ring_sums, same_sums;
    const Item item = items[blockIdx.y];
    if (!item.output || item.face < 0 || !item.base) return;
    int area = size * size, cells = (size / CELL) * (size / CELL), step = MATCH_BLOCKS * blockDim.x;
    Matched face(rows, item.face, size);
    const unsigned char* base_u = (const unsigned char*)(item.base + area);
    const unsigned char *base_v = base_u + cells, *ring = base_v + cells;
    if (threadIdx.x == 0) ring_sums = same_sums = {};
    __syncthreads();
    ring_sums.add(face.ring);
    __syncthreads();
    float gain = ring_sums.gain();
    for (int cell = blockIdx.x * blockDim.x + threadIdx.x; cell < cells; cell += step) {
        float wanted = face.base[cell];
        if (!ring[cell] || fabsf((face.cells[cell] - BLACK) * gain + BLACK - wanted) >= SAME) continue;
        same_sums.add_luma(face.cells[cell], wanted);
        same_sums.add_chroma(cell_mean(face.u, size, cell), cell_mean(face.v, size, cell), base_u[cell], base_v[cell]);
    }
    __syncthreads();
    if (threadIdx.x == 0) face.same[blockIdx.x] = same_sums;
}

// The luma and the shift of chroma by these sums, and how alike each cell and those around it are then.
extern "C" __global__ void match_levels(const Item* items, float* rows, int size) {
    __shared__ Sums ring, same;
    const Item item = items[blockIdx.y];
    if (!item.output || item.face < 0 || !item.base) return;
    int count = size / CELL, cells = count * count, step = MATCH_BLOCKS * blockDim.x;
    int start = blockIdx.x * blockDim.x + threadIdx.x;
    Matched face(rows, item.face, size);
    if (threadIdx.x == 0) ring = same = {};
    __syncthreads();
    ring.add(face.ring);
    same.add(face.same);
    __syncthreads();
    Level level(ring, same);
    if (start == 0 && level.told) {
        face.shift[0] = within(same.mean(same.base_u) - same.mean(same.u), -MAX_SHIFT, MAX_SHIFT);
        face.shift[1] = within(same.mean(same.base_v) - same.mean(same.v), -MAX_SHIFT, MAX_SHIFT);
    }
    for (int at = start; at < size * size; at += step) {
        face.luma[at] = face.raw[at] = face.raw[at] * level.gain + level.offset;
    }
    for (int cell = start; cell < cells; cell += step) {
        float most = 0.0f;
        for (int at = 0; at < 9; ++at) {
            int x = clamp(cell % count + at % 3 - 1, count), y = clamp(cell / count + at / 3 - 1, count);
            int beside = y * count + x;
            most = fmaxf(most, fabsf(face.cells[beside] * level.gain + level.offset - face.base[beside]));
        }
        face.weights[cell] = within((UNLIKE - most) / (UNLIKE - ALIKE), 0.0f, 1.0f);
    }
}

// What is fine, where there is no detail of the frame.
extern "C" __global__ void match_details(const Item* items, float* rows, int size) {
    const Item item = items[blockIdx.y];
    if (!item.output || item.face < 0 || !item.base || item.sharpening == 0.0f) return;
    Matched face(rows, item.face, size);
    int step = MATCH_BLOCKS * blockDim.x;
    for (int at = blockIdx.x * blockDim.x + threadIdx.x; at < size * size; at += step) {
        sharpen(face, size, at, item.sharpening);
    }
}

struct Places {  // of one row or column of the frame: in the mask, in the face, in its cells
    Place mask, face, cell;
    bool inside;  // the box

    __device__ Places(int at, int from, int to, int size)
        : mask(place(at - from, to - from, MASK)), face(place(at - from, to - from, size)),
          cell(place(at - from, to - from, size / CELL)), inside(from <= at && at < to) {}
};

__device__ inline unsigned char blend(int under, float over, float alpha) {
    return (unsigned char)within(rintf(under + (over - under) * alpha), 0.0f, 255.0f);
}

// The luma that is shown: the face's, with the frame's detail where both agree, and within bounds where not.
__device__ inline float detailed(
    const Item& item, const Matched& face, float luma, int under, int size, const Places& column, const Places& row) {
    float share = linear(face.weights, size / CELL, column.cell, row.cell), plain = luma;
    if (item.sharpening != 0.0f && share < 1.0f) {
        float low = linear(face.low, size, column.face, row.face);
        plain = within(luma, low, linear(face.high, size, column.face, row.face));
    }
    if (share == 0.0f) return plain;
    return plain + (under - cubic(item.base, size, column.face, row.face) / STEPS + luma - plain) * share;
}

// Two by two pixels from (x, y) on, and their chroma.
__device__ void compose_quad(
    const Item& item, const Matched& face, int size, int width, int height, int x, int y, const Places* rows) {
    Places columns[2] = {Places(x, item.x0, item.x1, size), Places(x + 1, item.x0, item.x1, size)};
    float u = 0.0f, v = 0.0f, whole = 1.0f;
    for (int pixel = 0; pixel < 4; ++pixel) {
        const Places &column = columns[pixel & 1], &row = rows[pixel >> 1];
        int at = (y + (pixel >> 1)) * width + x + (pixel & 1), under = item.frame[at];
        bool inside = column.inside && row.inside;
        float alpha = inside ? linear(item.mask, MASK, column.mask, row.mask) * (item.weight / 255.0f) : 0.0f;
        whole = fminf(alpha, whole);
        item.output[at] = under;
        if (alpha == 0.0f) continue;
        float luma = cubic(face.luma, size, column.face, row.face);
        if (item.base) luma = detailed(item, face, luma, under, size, column, row);
        item.output[at] = blend(under, luma, alpha);
        u += linear(face.u, size, column.face, row.face);
        v += linear(face.v, size, column.face, row.face);
    }
    int at = (height + y / 2) * width + x;
    item.output[at] = blend(item.frame[at], u * 0.25f + face.shift[0], whole);
    item.output[at + 1] = blend(item.frame[at + 1], v * 0.25f + face.shift[1], whole);
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
extern "C" __global__ void compose(const Item* items, float* matched, int size, int width, int height) {
    const Item item = items[blockIdx.y];
    int strips = (width + STRIP - 1) / STRIP;
    int index = blockIdx.x * blockDim.x + threadIdx.x;
    if (!item.output || index >= strips * (height / 2)) return;
    int x = index % strips * STRIP, y = index / strips * 2;
    int end = x + STRIP < width ? x + STRIP : width;
    if (item.face >= 0 && x < item.x1 && end > item.x0 && y < item.y1 && y + 2 > item.y0) {
        Matched face(matched, item.face, size);
        Places rows[2] = {Places(y, item.y0, item.y1, size), Places(y + 1, item.y0, item.y1, size)};
        for (; x < end; x += 2) compose_quad(item, face, size, width, height, x, y, rows);
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

extern "C" __global__ void match_half(const Item* items, const unsigned short* faces, float* matched, int size) {
    match(items, faces, matched, size);
}

extern "C" __global__ void match_float(const Item* items, const float* faces, float* matched, int size) {
    match(items, faces, matched, size);
}

extern "C" __global__ void gather_half(
    const Item* items, unsigned short* latents, unsigned short* tokens, int latent_count, int token_count) {
    gather(items, latents, tokens, latent_count, token_count);
}

extern "C" __global__ void gather_float(
    const Item* items, float* latents, float* tokens, int latent_count, int token_count) {
    gather(items, latents, tokens, latent_count, token_count);
}
