/* A libnvidia-ml.so.1 for machines without a GPU: what sweep/slots/nvidia.py asks for, answered from a text file.
 *
 * $FAKE_NVML_STATE names the file. It is read again at every call, so that a test can pull a device out from under
 * a running process. One record a line, words in any order, GPUs numbered as they come:
 *
 *   init error=9                       what nvmlInit, and every call from now on, answers (9: driver not loaded)
 *   gpu uuid=GPU-1 name=Fake_H100 total=81559 used=4 util=0 watt=70 temp=30 error=15
 *   proc gpu=0 pid=4242                a process that computes on it
 *
 * total and used are MiB; `_` in a name is a blank; watt=-1 is "not supported"; error is what calls about this
 * GPU answer (15: lost). gcc -shared -fPIC -Wl,-soname,libnvidia-ml.so.1 -o libnvidia-ml.so.1 fake_nvml.c
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SUCCESS, UNINITIALIZED, INVALID_ARGUMENT, NOT_SUPPORTED, NOT_FOUND = 6, TOO_SMALL = 7, NO_DRIVER = 9 };
enum { GPUS = 64, PROCESSES = 512 };
typedef unsigned long long bytes;

static struct gpu { char uuid[96], name[96]; bytes total, used; int util, watt, temp, error; } gpus[GPUS];
static struct process { unsigned gpu, pid; } processes[PROCESSES];
static unsigned gpu_count, process_count;
static int started, init_error;

/* The text after `key=` in a record, up to the next blank; `fallback` if the key is not there. */
static const char *word(const char *line, const char *key, const char *fallback) {
    static char found[96];
    char wanted[16];
    snprintf(wanted, sizeof wanted, " %s=", key);
    const char *at = strstr(line, wanted);
    return at && sscanf(at + strlen(wanted), "%95s", found) == 1 ? found : fallback;
}

static long number(const char *line, const char *key, const char *fallback) { return atol(word(line, key, fallback)); }

static int load(void) {
    const char *path = getenv("FAKE_NVML_STATE");
    FILE *file = path ? fopen(path, "r") : NULL;
    char line[512];
    if (!file) return NO_DRIVER;
    gpu_count = process_count = init_error = 0;
    while (fgets(line, sizeof line, file)) {
        if (!strncmp(line, "init ", 5)) init_error = number(line, "error", "0");
        if (!strncmp(line, "gpu ", 4) && gpu_count < GPUS) {
            struct gpu *g = &gpus[gpu_count++];
            strcpy(g->uuid, word(line, "uuid", ""));
            strcpy(g->name, word(line, "name", "Fake_GPU"));
            for (char *c = g->name; *c; c++) if (*c == '_') *c = ' ';
            g->total = (bytes)number(line, "total", "81559") << 20;
            g->used = (bytes)number(line, "used", "4") << 20;
            g->util = number(line, "util", "0");
            g->watt = number(line, "watt", "70");
            g->temp = number(line, "temp", "30");
            g->error = number(line, "error", "0");
        }
        if (!strncmp(line, "proc ", 5) && process_count < PROCESSES)
            processes[process_count++] = (struct process){number(line, "gpu", "0"), number(line, "pid", "0")};
    }
    fclose(file);
    return init_error;
}

/* What every call but nvmlInit begins with. A driver that is gone must be started again when it is back. */
static int ready(void) {
    int error = started ? load() : UNINITIALIZED;
    if (error) started = 0;
    return error;
}

/* A handle is a place in `gpus`: it means another GPU once the order of the records has changed. */
static int find(struct gpu *handle) {
    int error = ready();
    if (error) return error;
    if (handle < gpus || handle >= gpus + gpu_count) return INVALID_ARGUMENT;
    return handle->error;
}

#define FIND(handle) do { int error_ = find(handle); if (error_) return error_; } while (0)

static int copy(char *to, unsigned size, const char *from) {
    if (strlen(from) >= size) return TOO_SMALL;
    strcpy(to, from);
    return SUCCESS;
}

int nvmlInitWithFlags(unsigned flags) {
    (void)flags;
    int error = load();
    if (!error) started++;
    return error;
}

int nvmlShutdown(void) {
    if (!started) return UNINITIALIZED;
    started--;
    return SUCCESS;
}

const char *nvmlErrorString(int error) { (void)error; return "an error of the fake"; }

int nvmlDeviceGetCount_v2(unsigned *count) {
    int error = ready();
    *count = gpu_count;
    return error;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, struct gpu **handle) {
    *handle = &gpus[index < GPUS ? index : 0];
    int error = ready();
    return error ? error : index >= gpu_count ? INVALID_ARGUMENT : gpus[index].error;
}

int nvmlDeviceGetHandleByUUID(const char *uuid, struct gpu **handle) {
    int error = ready();
    if (error) return error;
    for (unsigned i = 0; i < gpu_count; i++)
        if (!strcmp(gpus[i].uuid, uuid)) {
            *handle = &gpus[i];
            return gpus[i].error;
        }
    return NOT_FOUND;
}

int nvmlDeviceGetUUID(struct gpu *g, char *text, unsigned size) { FIND(g); return copy(text, size, g->uuid); }

int nvmlDeviceGetName(struct gpu *g, char *text, unsigned size) { FIND(g); return copy(text, size, g->name); }

int nvmlDeviceGetMemoryInfo_v2(struct gpu *g, bytes *info) { /* version (32 bits), total, reserved, free, used */
    FIND(g);
    info[1] = g->total, info[2] = 0, info[3] = g->total - g->used, info[4] = g->used;
    return SUCCESS;
}

int nvmlDeviceGetUtilizationRates(struct gpu *g, unsigned *rates) { /* gpu, memory: percent */
    FIND(g);
    rates[0] = g->util, rates[1] = 0;
    return SUCCESS;
}

int nvmlDeviceGetPowerUsage(struct gpu *g, unsigned *milliwatts) {
    FIND(g);
    *milliwatts = g->watt * 1000;
    return g->watt < 0 ? NOT_SUPPORTED : SUCCESS;
}

int nvmlDeviceGetTemperature(struct gpu *g, int sensor, unsigned *celsius) {
    (void)sensor;
    FIND(g);
    *celsius = g->temp;
    return SUCCESS;
}

struct process_info { unsigned pid; bytes memory; unsigned gpu_instance, compute_instance; };

int nvmlDeviceGetComputeRunningProcesses_v3(struct gpu *g, unsigned *count, struct process_info *info) {
    FIND(g);
    unsigned room = *count, seen = 0;
    for (unsigned i = 0; i < process_count; i++) {
        if (processes[i].gpu != g - gpus) continue;
        if (info && seen < room) info[seen] = (struct process_info){processes[i].pid, 1 << 20, ~0u, ~0u};
        seen++;
    }
    *count = seen;
    return seen > room ? TOO_SMALL : SUCCESS;
}
