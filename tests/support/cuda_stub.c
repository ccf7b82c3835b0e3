/* A stand-in for libcuda.so.1 that answers what environment variables say; without any of them CUDA has the GPUs of
 * CUDA_STUB_GPUS, none by default.
 *
 *   CUDA_STUB_INIT     what cuInit returns (default 0); "hang": it does not return; "crash": it ends the process
 *   CUDA_STUB_VERSION  12040 for 12.4 (default 0)
 *   CUDA_STUB_GPUS     name|major|minor|MiB;...
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MOST 16

static struct { char name[96]; int major, minor; size_t mib; } gpus[MOST];
static int count;

int cuInit(unsigned flags) {
    const char *answer = getenv("CUDA_STUB_INIT"), *text = getenv("CUDA_STUB_GPUS");
    if (answer && !strcmp(answer, "hang")) for (;;) pause();
    if (answer && !strcmp(answer, "crash")) raise(SIGSEGV);
    char *copy = strdup(text ? text : ""), *record;
    for (char *all = copy; (record = strsep(&all, ";")) && count < MOST;)
        if (sscanf(record, "%95[^|]|%d|%d|%zu", gpus[count].name, &gpus[count].major, &gpus[count].minor,
                   &gpus[count].mib) == 4)
            count++;
    free(copy);
    return flags ? 1 : answer ? atoi(answer) : 0;
}

int cuDriverGetVersion(int *out) {
    const char *text = getenv("CUDA_STUB_VERSION");
    return *out = text ? atoi(text) : 0, 0;
}

int cuDeviceGetCount(int *out) { return *out = count, 0; }
int cuDeviceGet(int *out, int index) { return *out = index, index < count ? 0 : 101; }
int cuDeviceGetName(char *out, int size, int device) { return snprintf(out, size, "%s", gpus[device].name), 0; }
int cuDeviceTotalMem_v2(size_t *out, int device) { return *out = gpus[device].mib << 20, 0; }
int cuDeviceGetAttribute(int *out, int kind, int device) {
    return *out = kind == 75 ? gpus[device].major : kind == 76 ? gpus[device].minor : 0, 0;
}
