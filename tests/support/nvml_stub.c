/* A stand-in for libnvidia-ml.so.1 that says what environment variables tell it to, for nvidia-ml-py to read.
 *
 *   NVML_STUB_INIT     what nvmlInitWithFlags returns (default 0)
 *   NVML_STUB_DRIVER   driver version; not set: error 3, "not supported"
 *   NVML_STUB_CUDA     12040 for 12.4; not set: error 3
 *   NVML_STUB_GPUS     name|uuid|major.minor|MiB|brand|mig|virtualization|fabric state|licensed|error;...
 *   NVML_STUB_SLICES   gpu|name|uuid|MiB;...
 *   NVML_STUB_USAGE    uuid|percent busy|MiB used|degrees;... of a GPU or slice; without a row, or with "-" in a
 *                      field: error 3
 *   NVML_STUB_PROCESSES  uuid|pid|MiB;... on a GPU or slice; "-": no memory is stated
 *
 * Compiled with -DOLD it has only the functions of drivers before R450, with -DR470 those of drivers before R510.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MOST 32
#define OK 0
#define NOT_SUPPORTED 3
#define NOT_FOUND 6
#define INSUFFICIENT_SIZE 7
#define RESERVED (512ull << 20)

typedef struct {
    char name[96], uuid[96], capability[16];
    unsigned long long mib;
    int brand, mig, virtualization, fabric, licensed, error, owner;
} device;

typedef struct { unsigned long long total, free, used; } memory;
typedef struct { unsigned version; unsigned long long total, reserved, free, used; } memory_v2;
typedef struct { unsigned gpu, memory; } utilization;
typedef struct { unsigned pid; unsigned long long used; unsigned gpu_instance, compute_instance; } process;

typedef struct {
    unsigned version;
    unsigned char cluster[16];
    int status;
    unsigned clique, state, health;
} fabric_info;

typedef struct {
    unsigned code, state;
    char info[128], product[128];
    unsigned enabled;
    struct { unsigned year; unsigned short month, day, hour, min, sec; unsigned char status; } expiry;
} feature;

typedef struct { int supported; unsigned count; feature features[3]; } features;

static device gpus[MOST], slices[MOST];
static int gpu_count, slice_count;

static int number(const char *name, int absent) {
    const char *text = getenv(name);
    return text ? atoi(text) : absent;
}

/* The next field of a record; an empty one is "". */
static char *field(char **rest) {
    char *text = strsep(rest, "|");
    return text ? text : "";
}

static void read_gpus(void) {
    char *copy = strdup(getenv("NVML_STUB_GPUS") ? getenv("NVML_STUB_GPUS") : ""), *record;
    for (char *all = copy; (record = strsep(&all, ";")) && *record && gpu_count < MOST;) {
        device *gpu = &gpus[gpu_count];
        gpu->owner = gpu_count++;
        snprintf(gpu->name, sizeof gpu->name, "%s", field(&record));
        snprintf(gpu->uuid, sizeof gpu->uuid, "%s", field(&record));
        snprintf(gpu->capability, sizeof gpu->capability, "%s", field(&record));
        gpu->mib = strtoull(field(&record), 0, 10);
        gpu->brand = atoi(field(&record));
        gpu->mig = atoi(field(&record));
        gpu->virtualization = atoi(field(&record));
        gpu->fabric = atoi(field(&record));
        gpu->licensed = atoi(field(&record));
        gpu->error = atoi(field(&record));
    }
    free(copy);
    copy = strdup(getenv("NVML_STUB_SLICES") ? getenv("NVML_STUB_SLICES") : "");
    for (char *all = copy; (record = strsep(&all, ";")) && *record && slice_count < MOST;) {
        device *slice = &slices[slice_count++];
        slice->owner = atoi(field(&record));
        snprintf(slice->name, sizeof slice->name, "%s", field(&record));
        snprintf(slice->uuid, sizeof slice->uuid, "%s", field(&record));
        slice->mib = strtoull(field(&record), 0, 10);
    }
    free(copy);
}

static int put(char *out, unsigned size, const char *text) {
    if (!text) return NOT_SUPPORTED;
    snprintf(out, size, "%s", text);
    return OK;
}

int nvmlInitWithFlags(unsigned flags) {
    (void)flags;
    int answer = number("NVML_STUB_INIT", OK);
    if (answer == OK && gpu_count == 0) read_gpus();
    return answer;
}
int nvmlShutdown(void) { return OK; }
const char *nvmlErrorString(int code) { return code ? "An error of the stub's own" : "Success"; }
int nvmlSystemGetDriverVersion(char *out, unsigned size) { return put(out, size, getenv("NVML_STUB_DRIVER")); }

static int cuda(int *out) {
    *out = number("NVML_STUB_CUDA", 0);
    return *out ? OK : NOT_SUPPORTED;
}
int nvmlSystemGetCudaDriverVersion(int *out) { return cuda(out); }

int nvmlDeviceGetCount_v2(unsigned *out) { return *out = gpu_count, OK; }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, device **out) {
    if ((int)index >= gpu_count) return NOT_FOUND;
    *out = &gpus[index];
    return gpus[index].error;
}
int nvmlDeviceGetName(device *gpu, char *out, unsigned size) { return put(out, size, gpu->name); }
int nvmlDeviceGetUUID(device *gpu, char *out, unsigned size) { return put(out, size, gpu->uuid); }
int nvmlDeviceGetBrand(device *gpu, int *out) { return *out = gpu->brand, OK; }
/* A field of the row of a GPU or slice in a variable; -1 when there is none. */
static long long usage(device *gpu, int column) {
    char *copy = strdup(getenv("NVML_STUB_USAGE") ? getenv("NVML_STUB_USAGE") : ""), *record;
    long long found = -1;
    for (char *all = copy; found < 0 && (record = strsep(&all, ";")) && *record;) {
        if (strcmp(field(&record), gpu->uuid)) continue;
        char *text = field(&record);
        while (column-- > 0) text = field(&record);
        if (*text == '-') break;
        found = atoll(text);
    }
    free(copy);
    return found;
}
int nvmlDeviceGetMemoryInfo(device *gpu, memory *out) { /* what the driver has reserved is used */
    long long used = usage(gpu, 1);
    out->total = gpu->mib << 20;
    out->used = used < 0 ? 0 : (used << 20) + RESERVED;
    return OK;
}
int nvmlDeviceGetUtilizationRates(device *gpu, utilization *out) {
    long long busy = usage(gpu, 0);
    if (busy < 0) return NOT_SUPPORTED;
    return out->gpu = busy, out->memory = 0, OK;
}
int nvmlDeviceGetTemperature(device *gpu, int sensor, unsigned *out) {
    long long degrees = usage(gpu, 2);
    if (degrees < 0 || sensor) return NOT_SUPPORTED;
    return *out = degrees, OK;
}
int nvmlDeviceGetVirtualizationMode(device *gpu, int *out) { return *out = gpu->virtualization, OK; }

#ifndef OLD
#ifndef R470
int nvmlDeviceGetMemoryInfo_v2(device *gpu, memory_v2 *out) {
    long long used = usage(gpu, 1);
    if (out->version != 0x02000028) return 25;
    out->total = gpu->mib << 20;
    out->used = used < 0 ? 0 : used << 20;
    out->reserved = RESERVED;
    return OK;
}
#endif
static int processes(device *gpu, unsigned *count, process *out) {
    char *copy = strdup(getenv("NVML_STUB_PROCESSES") ? getenv("NVML_STUB_PROCESSES") : ""), *record;
    unsigned room = *count, found = 0;
    for (char *all = copy; (record = strsep(&all, ";")) && *record;) {
        if (strcmp(field(&record), gpu->uuid)) continue;
        process next = {.pid = atoi(field(&record))};
        next.used = *record == '-' ? ~0ull : strtoull(record, 0, 10) << 20;
        if (found < room) out[found] = next;
        found++;
    }
    free(copy);
    return *count = found, found > room ? INSUFFICIENT_SIZE : OK;
}
#ifdef R470
int nvmlDeviceGetComputeRunningProcesses_v2(device *gpu, unsigned *n, process *out) { return processes(gpu, n, out); }
#else
int nvmlDeviceGetComputeRunningProcesses_v3(device *gpu, unsigned *n, process *out) { return processes(gpu, n, out); }
#endif
int nvmlSystemGetCudaDriverVersion_v2(int *out) { return cuda(out); }
int nvmlDeviceGetCudaComputeCapability(device *gpu, int *major, int *minor) {
    return sscanf(gpu->capability, "%d.%d", major, minor) == 2 ? OK : NOT_SUPPORTED;
}
int nvmlDeviceGetMigMode(device *gpu, unsigned *current, unsigned *pending) {
    *current = *pending = gpu->mig;
    return gpu->capability[0] >= '8' || gpu->mig ? OK : NOT_SUPPORTED;
}
int nvmlDeviceGetMaxMigDeviceCount(device *gpu, unsigned *out) { return *out = gpu->mig ? 7 : 0, OK; }
int nvmlDeviceGetMigDeviceHandleByIndex(device *gpu, unsigned index, device **out) {
    for (int i = 0; i < slice_count; i++)
        if (slices[i].owner == gpu->owner && index-- == 0) return *out = &slices[i], OK;
    return NOT_FOUND;
}
int nvmlDeviceGetGpuFabricInfoV(device *gpu, fabric_info *out) {
    if (out->version != 0x02000024) return 25; /* a version that does not match */
    return out->state = gpu->fabric, gpu->fabric ? OK : NOT_SUPPORTED;
}
int nvmlDeviceGetGridLicensableFeatures_v4(device *gpu, features *out) {
    out->supported = gpu->virtualization == 2;
    out->count = 1;
    out->features[0].state = gpu->licensed;
    return OK;
}
#endif
