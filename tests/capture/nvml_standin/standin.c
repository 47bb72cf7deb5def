/* A stand-in for the NVIDIA driver's library, libnvidia-ml.so.1: the calls that mfu-doctor's sampler makes, with NVML's own layouts.
 *
 * DRIVER is the driver's major version. What a driver of that version does not have yet is compiled out, so that looking it up
 * fails as it does there. It describes identical H100s, or A100s before GPM existed (DRIVER < 520).
 *
 * The environment variable NVML_STANDIN scripts it, entries separated by commas:
 *
 *   gpus=2            so many GPUs
 *   mig=1             each GPU has one MIG instance, GPU instance 4
 *   processes=3       so many compute processes on each
 *   wrap=1            the counters (throttled time, PCIe) start just below their end and wrap
 *   nvmlX=15          nvmlX returns 15
 *   nvmlX=15@7        nvmlX returns 15 from its seventh call on
 *   nvmlX=hang@7      nvmlX never returns from its seventh call
 *   nvmlX=steal@7     before the seventh call of nvmlX another library shuts NVML down, once
 *   device=9@40       every call that takes a device returns 9 from the 40th such call on
 *   only=1            that is so of the card of index 1 only
 *
 * Programs look in with standin_calls(name), standin_hanging() and standin_buffers().
 */
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifndef DRIVER
#define DRIVER 580
#endif

enum {
    SUCCESS = 0,
    UNINITIALIZED = 1,
    INVALID_ARGUMENT = 2,
    NOT_SUPPORTED = 3,
    NOT_FOUND = 6,
    INSUFFICIENT_SIZE = 7,
    VERSION_MISMATCH = 25
};
enum { VALUE_UNSIGNED_INT = 1, VALUE_UNSIGNED_LONG_LONG = 3 };

/* ---- the script ---- */

static const char *entry(const char *name) {
    const char *at = getenv("NVML_STANDIN");
    size_t length = strlen(name);
    while (at && *at) {
        if (!strncmp(at, name, length) && at[length] == '=') return at + length + 1;
        at = strchr(at, ',');
        if (at) at++;
    }
    return NULL;
}

static int setting(const char *name, int otherwise) {
    const char *value = entry(name);
    return value ? atoi(value) : otherwise;
}

struct calls {
    const char *name;
    int count;
};
static struct calls counted[64];
static volatile int hanging;
static int buffers, clients, stolen;

static struct calls *calls_of(const char *name) {
    int i = 0;
    while (counted[i].name && strcmp(counted[i].name, name)) i++;
    if (!counted[i].name) counted[i].name = strdup(name);
    return &counted[i];
}

int standin_calls(const char *name) { return calls_of(name)->count; }
int standin_hanging(void) { return hanging; }
int standin_buffers(void) { return buffers; }

/* Counts a call and does what the script says of it; returns the code to answer with. */
static int scripted(const char *name) {
    int count = ++calls_of(name)->count;
    const char *value = entry(name);
    if (!value) return SUCCESS;
    const char *end = value + strcspn(value, ",");
    const char *from = strchr(value, '@');
    if (from && from < end && count < atoi(from + 1)) return SUCCESS;
    if (!strncmp(value, "hang", 4)) {
        hanging = 1;
        for (;;) pause();
    }
    if (!strncmp(value, "steal", 5)) {
        if (!stolen) clients = 0;
        stolen = 1;
        return SUCCESS;
    }
    return atoi(value);
}

/* ---- devices: a handle is the address of one of these ---- */

struct device {
    int index, mig;
    char uuid[64];
};
static struct device cards[8], instances[8];

static int gpus(void) { return setting("gpus", 1); }

static void describe(void) {
    for (int i = 0; i < 8; i++) {
        cards[i].index = instances[i].index = i;
        instances[i].mig = 1;
        snprintf(cards[i].uuid, sizeof cards[i].uuid, "GPU-0000000%d-aaaa-bbbb-cccc-dddddddddddd", i);
        snprintf(instances[i].uuid, sizeof instances[i].uuid, "MIG-0000000%d-aaaa-bbbb-cccc-eeeeeeeeeeee", i);
    }
}

static int is_device(struct device *device) {
    for (int i = 0; i < gpus(); i++)
        if (device == &cards[i] || device == &instances[i]) return 1;
    return 0;
}

#define BEGIN(name)                              \
    do {                                         \
        int code = scripted(name);               \
        if (code) return code;                   \
        if (!clients) return UNINITIALIZED;      \
    } while (0)

#define BEGIN_DEVICE(name)                                \
    do {                                                  \
        BEGIN(name);                                      \
        if (!is_device(device)) return INVALID_ARGUMENT;  \
        if (setting("only", device->index) == device->index) { \
            int lost = scripted("device");                \
            if (lost) return lost;                        \
        }                                                 \
    } while (0)

/* Readings that a MIG instance does not have: they belong to the card. */
#define BEGIN_CARD(name)                          \
    do {                                          \
        BEGIN_DEVICE(name);                       \
        if (device->mig) return NOT_SUPPORTED;    \
    } while (0)

static int copied(char *to, unsigned size, const char *from) {
    if (strlen(from) >= size) return INSUFFICIENT_SIZE;
    strcpy(to, from);
    return SUCCESS;
}

int nvmlInitWithFlags(unsigned flags) {
    (void)flags;
    int code = scripted("nvmlInitWithFlags");
    if (code) return code;
    describe();
    clients++;
    return SUCCESS;
}

int nvmlShutdown(void) {
    BEGIN("nvmlShutdown");
    clients--;
    return SUCCESS;
}

const char *nvmlErrorString(int code) {
    return code == 15 ? "GPU is lost" : code == 9 ? "Driver Not Loaded" : "Unknown Error";
}

int nvmlSystemGetDriverVersion(char *version, unsigned size) {
    BEGIN("nvmlSystemGetDriverVersion");
    char text[32];
    snprintf(text, sizeof text, "%d.65.06", DRIVER);
    return copied(version, size, text);
}

int nvmlDeviceGetCount_v2(unsigned *count) {
    BEGIN("nvmlDeviceGetCount_v2");
    *count = gpus();
    return SUCCESS;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, struct device **device) {
    BEGIN("nvmlDeviceGetHandleByIndex_v2");
    if (index >= (unsigned)gpus()) return INVALID_ARGUMENT;
    *device = &cards[index];
    return SUCCESS;
}

int nvmlDeviceGetHandleByUUID(const char *uuid, struct device **device) {
    BEGIN("nvmlDeviceGetHandleByUUID");
    for (int i = 0; i < gpus(); i++) {
        if (!strcmp(uuid, cards[i].uuid)) *device = &cards[i];
        else if (setting("mig", 0) && !strcmp(uuid, instances[i].uuid)) *device = &instances[i];
        else continue;
        return SUCCESS;
    }
    return NOT_FOUND;
}

int nvmlDeviceGetUUID(struct device *device, char *uuid, unsigned size) {
    BEGIN_DEVICE("nvmlDeviceGetUUID");
    return copied(uuid, size, device->uuid);
}

int nvmlDeviceGetName(struct device *device, char *name, unsigned size) {
    BEGIN_DEVICE("nvmlDeviceGetName");
    return copied(name, size, DRIVER < 520 ? "NVIDIA A100-SXM4-80GB" : "NVIDIA H100 80GB HBM3");
}

/* ---- MIG ---- */

#if DRIVER >= 450
int nvmlDeviceIsMigDeviceHandle(struct device *device, unsigned *is_mig) {
    BEGIN_DEVICE("nvmlDeviceIsMigDeviceHandle");
    *is_mig = device->mig;
    return SUCCESS;
}

int nvmlDeviceGetDeviceHandleFromMigDeviceHandle(struct device *device, struct device **card) {
    BEGIN_DEVICE("nvmlDeviceGetDeviceHandleFromMigDeviceHandle");
    if (!device->mig) return INVALID_ARGUMENT;
    *card = &cards[device->index];
    return SUCCESS;
}

int nvmlDeviceGetGpuInstanceId(struct device *device, unsigned *id) {
    BEGIN_DEVICE("nvmlDeviceGetGpuInstanceId");
    if (!device->mig) return INVALID_ARGUMENT;
    *id = 4;
    return SUCCESS;
}

int nvmlDeviceGetMigMode(struct device *device, unsigned *now, unsigned *later) {
    BEGIN_CARD("nvmlDeviceGetMigMode");
    *now = *later = setting("mig", 0);
    return SUCCESS;
}
#endif

/* ---- plain readings ---- */

#define READING(name, type, answer)                     \
    int name(struct device *device, type *value) {      \
        BEGIN_CARD(#name);                              \
        *value = answer;                                \
        return SUCCESS;                                 \
    }

READING(nvmlDeviceGetPowerUsage, unsigned, 640000)
READING(nvmlDeviceGetEnforcedPowerLimit, unsigned, 700000)
READING(nvmlDeviceGetPowerManagementDefaultLimit, unsigned, 700000)
READING(nvmlDeviceGetCurrPcieLinkGeneration, unsigned, 5)
READING(nvmlDeviceGetCurrPcieLinkWidth, unsigned, 16)
READING(nvmlDeviceGetMaxPcieLinkGeneration, unsigned, 5)
READING(nvmlDeviceGetMaxPcieLinkWidth, unsigned, 16)
READING(nvmlDeviceGetCurrentClocksThrottleReasons, unsigned long long, 0x20)
#if DRIVER >= 535
READING(nvmlDeviceGetCurrentClocksEventReasons, unsigned long long, 0x4)
#endif

int nvmlDeviceGetClockInfo(struct device *device, unsigned kind, unsigned *mhz) {
    BEGIN_CARD("nvmlDeviceGetClockInfo");
    if (kind > 3) return INVALID_ARGUMENT;
    *mhz = kind == 2 ? 2619 : 1755;
    return SUCCESS;
}

int nvmlDeviceGetMaxClockInfo(struct device *device, unsigned kind, unsigned *mhz) {
    BEGIN_CARD("nvmlDeviceGetMaxClockInfo");
    *mhz = kind == 2 ? 2619 : 1980;
    return SUCCESS;
}

struct utilization {
    unsigned gpu, memory;
};

int nvmlDeviceGetUtilizationRates(struct device *device, struct utilization *rates) {
    BEGIN_CARD("nvmlDeviceGetUtilizationRates");
    if (setting("mig", 0)) return NOT_SUPPORTED;
    rates->gpu = 97, rates->memory = 40;
    return SUCCESS;
}

struct memory {
    unsigned long long total, free, used;
};

int nvmlDeviceGetMemoryInfo(struct device *device, struct memory *memory) {
    BEGIN_DEVICE("nvmlDeviceGetMemoryInfo");
    memory->total = (device->mig ? 10ull : 80ull) << 30;
    memory->used = 8ull << 30;
    memory->free = memory->total - memory->used;
    return SUCCESS;
}

int nvmlDeviceGetTemperature(struct device *device, int sensor, unsigned *celsius) {
    BEGIN_CARD("nvmlDeviceGetTemperature");
    if (sensor) return INVALID_ARGUMENT;
    *celsius = 62;
    return SUCCESS;
}

#if DRIVER >= 560
struct temperature {
    unsigned version;
    int sensor, celsius;
};

int nvmlDeviceGetTemperatureV(struct device *device, struct temperature *temperature) {
    BEGIN_CARD("nvmlDeviceGetTemperatureV");
    if (temperature->version != (sizeof *temperature | 1 << 24)) return VERSION_MISMATCH;
    if (temperature->sensor) return INVALID_ARGUMENT;
    temperature->celsius = 61;
    return SUCCESS;
}
#endif

/* ---- processes: asked for the number first, then for the list ---- */

struct process {
    unsigned pid;
    unsigned long long memory;
    unsigned gpu_instance, compute_instance;
};

#if DRIVER >= 460
static int list_processes(unsigned *room, struct process *list) {
    unsigned running = setting("processes", 1);
    if (*room < running || (!list && running)) {
        *room = running;
        return INSUFFICIENT_SIZE;
    }
    for (unsigned i = 0; i < running; i++) list[i] = (struct process){100 + i, ~0ull, ~0u, ~0u};
    *room = running;
    return SUCCESS;
}

int nvmlDeviceGetComputeRunningProcesses_v2(struct device *device, unsigned *room, struct process *list) {
    BEGIN_DEVICE("nvmlDeviceGetComputeRunningProcesses_v2");
    return list_processes(room, list);
}
#endif

#if DRIVER >= 510
int nvmlDeviceGetComputeRunningProcesses_v3(struct device *device, unsigned *room, struct process *list) {
    BEGIN_DEVICE("nvmlDeviceGetComputeRunningProcesses_v3");
    return list_processes(room, list);
}
#endif

/* ---- fields: each with a code of its own ---- */

struct field {
    unsigned id, scope;
    long long timestamp, latency_us;
    int type, code;
    union {
        double d;
        unsigned ui;
        unsigned long long ull;
    } value;
};

/* Throttled nanoseconds or PCIe bytes: every reading is 100 million further. */
static unsigned long long counter(unsigned reading) {
    unsigned long long start = setting("wrap", 0) ? ~0ull - 150000000ull : 1000000000ull;
    return start + reading * 100000000ull;
}

int nvmlDeviceGetFieldValues(struct device *device, int count, struct field *fields) {
    BEGIN_CARD("nvmlDeviceGetFieldValues");
    static unsigned readings[256];
    for (int i = 0; i < count; i++) {
        struct field *field = &fields[i];
        unsigned id = field->id;
        field->code = SUCCESS;
        if (id == 186 && DRIVER >= 530) {
            field->type = VALUE_UNSIGNED_INT;
            field->value.ui = 650000;
        } else if ((id >= 74 && id <= 79) || ((id == 197 || id == 198) && DRIVER >= 535)) {
            field->type = VALUE_UNSIGNED_LONG_LONG;
            field->value.ull = counter(readings[id]++);
        } else {
            field->code = id > 180 && DRIVER < 530 ? INVALID_ARGUMENT : NOT_SUPPORTED;
        }
    }
    return SUCCESS;
}

/* ---- GPM: activity between two samples ---- */

#if DRIVER >= 520
struct gpm_sample {
    int taken;
};

struct gpm_metric {
    unsigned id;
    int code;
    double value;
    const char *short_name, *long_name, *unit;
};

struct gpm_request {
    unsigned version, count;
    struct gpm_sample *first, *second;
    struct gpm_metric metrics[];
};

struct gpm_support {
    unsigned version, supported;
};

int nvmlGpmQueryDeviceSupport(struct device *device, struct gpm_support *support) {
    BEGIN_CARD("nvmlGpmQueryDeviceSupport");
    if (support->version != 1) return VERSION_MISMATCH;
    support->supported = 1;
    return SUCCESS;
}

int nvmlGpmSampleAlloc(struct gpm_sample **sample) {
    BEGIN("nvmlGpmSampleAlloc");
    *sample = calloc(1, sizeof **sample);
    buffers++;
    return SUCCESS;
}

int nvmlGpmSampleFree(struct gpm_sample *sample) {
    BEGIN("nvmlGpmSampleFree");
    free(sample);
    buffers--;
    return SUCCESS;
}

static int taken[8]; /* by card */

int nvmlGpmSampleGet(struct device *device, struct gpm_sample *sample) {
    BEGIN_CARD("nvmlGpmSampleGet");
    if (setting("mig", 0)) return NOT_SUPPORTED;
    sample->taken = ++taken[device->index];
    return SUCCESS;
}

int nvmlGpmMigSampleGet(struct device *device, unsigned instance, struct gpm_sample *sample) {
    BEGIN_CARD("nvmlGpmMigSampleGet");
    if (instance != 4) return INVALID_ARGUMENT;
    sample->taken = ++taken[device->index];
    return SUCCESS;
}

/* Tells 40 percent of tensor activity, and for anything but a sample and the one taken right after it an error. */
int nvmlGpmMetricsGet(struct gpm_request *request) {
    BEGIN("nvmlGpmMetricsGet");
    if (request->version != 1) return VERSION_MISMATCH;
    if (!request->first->taken || request->second->taken != request->first->taken + 1) return INVALID_ARGUMENT;
    for (unsigned i = 0; i < request->count; i++) {
        struct gpm_metric *metric = &request->metrics[i];
        metric->code = metric->id == 10 ? NOT_SUPPORTED : SUCCESS;
        metric->value = metric->id == 5 ? 40.0 : metric->id == 2 ? 91.0 : 0.0;
    }
    return SUCCESS;
}
#endif
