/* A libnvidia-ml.so.1 for machines without a GPU: what sweep/slots/nvidia.py asks for, answered from a text file.
 *
 * $FAKE_NVML_STATE names the file. It is read again at every call after which it was replaced, so that a test can
 * pull a device out from under a running process. One record a line, words in any order, GPUs numbered as they come:
 *
 *   init error=9                       what nvmlInit, and every call from now on, answers (9: driver not loaded)
 *   gpu uuid=GPU-1 name=Fake_H100 total=81559 used=4 util=0 watt=70 temp=30 error=15 mig=1 ecc=0 unmapped=0 retire=0
 *   mig gpu=0 uuid=MIG-1 name=Fake_H100_MIG_1g.10gb total=9728 used=4     an instance of that GPU, whose MIG is on
 *   proc gpu=0 pid=4242                a process that computes on it; mig=1 instead: on the second of all instances;
 *                                      used=4000: with so much memory in use, while it lives
 *   link gpu=0 to=1 level=10 nvlink=1  how two GPUs are connected; not supported where nothing is said of them
 *   xid gpu=0 code=79 instance=1       an event: told once to every event set that was there before the record was;
 *                                      code=0: of type DoubleBitEccError. deaf=1 in a gpu: it supports no events
 *
 * total and used are MiB; `_` in a name is a blank; watt=-1 is "not supported"; error is what calls about this
 * GPU answer (15: lost). gcc -shared -fPIC -Wl,-soname,libnvidia-ml.so.1 -o libnvidia-ml.so.1 fake_nvml.c
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { SUCCESS, UNINITIALIZED, INVALID_ARGUMENT, NOT_SUPPORTED, NOT_FOUND = 6, TOO_SMALL = 7, NO_DRIVER = 9, TIMEOUT = 10 };
enum { GPUS = 64, PROCESSES = 512 };
typedef unsigned long long bytes;

static struct gpu { char uuid[96], name[96]; bytes total, used; int util, watt, temp, error, mig, parent, ecc, unmapped, retire, deaf; } gpus[GPUS], migs[GPUS];
static struct process { struct gpu *on; unsigned pid; } processes[PROCESSES];
static struct link { struct gpu *one, *other; int level, nvlink; } links[PROCESSES];
static struct event { struct gpu *device; bytes type, data; unsigned gpu_instance, compute_instance; } xids[PROCESSES];
static unsigned gpu_count, mig_count, process_count, link_count, xid_count;
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
    static struct stat known;
    struct stat now;
    const char *path = getenv("FAKE_NVML_STATE");
    if (path && !stat(path, &now) && now.st_ino == known.st_ino && now.st_mtim.tv_sec == known.st_mtim.tv_sec &&
        now.st_mtim.tv_nsec == known.st_mtim.tv_nsec && !process_count) /* whose memory is theirs while they live */
        return init_error;
    FILE *file = path ? fopen(path, "r") : NULL;
    char line[512];
    if (!file) return NO_DRIVER;
    fstat(fileno(file), &known);
    gpu_count = mig_count = process_count = link_count = xid_count = init_error = 0;
    while (fgets(line, sizeof line, file)) {
        if (!strncmp(line, "init ", 5)) init_error = number(line, "error", "0");
        int whole = !strncmp(line, "gpu ", 4), part = !strncmp(line, "mig ", 4);
        if ((whole && gpu_count < GPUS) || (part && mig_count < GPUS)) {
            struct gpu *g = whole ? &gpus[gpu_count++] : &migs[mig_count++];
            strcpy(g->uuid, word(line, "uuid", ""));
            strcpy(g->name, word(line, "name", "Fake_GPU"));
            for (char *c = g->name; *c; c++) if (*c == '_') *c = ' ';
            g->total = (bytes)number(line, "total", "81559") << 20;
            g->used = (bytes)number(line, "used", "4") << 20;
            g->util = number(line, "util", "0");
            g->watt = number(line, "watt", "70");
            g->temp = number(line, "temp", "30");
            g->error = number(line, "error", "0");
            g->mig = number(line, "mig", "-1");
            g->parent = number(line, "gpu", "-1");
            g->ecc = number(line, "ecc", "-1");
            g->unmapped = number(line, "unmapped", "-1");
            g->retire = number(line, "retire", "-1");
            g->deaf = number(line, "deaf", "0");
        }
        if (!strncmp(line, "proc ", 5) && process_count < PROCESSES)
            processes[process_count++] = (struct process){
                strstr(line, " mig=") ? &migs[number(line, "mig", "0")] : &gpus[number(line, "gpu", "0")],
                number(line, "pid", "0")};
        if (!strncmp(line, "proc ", 5) && !kill(number(line, "pid", "0"), 0))
            processes[process_count - 1].on->used += (bytes)number(line, "used", "0") << 20;
        if (!strncmp(line, "xid ", 4) && xid_count < PROCESSES) {
            bytes code = number(line, "code", "0");
            xids[xid_count++] = (struct event){&gpus[number(line, "gpu", "0")], code ? 8 : 2, code,
                                               number(line, "instance", "4294967295"), ~0u};
        }
        if (!strncmp(line, "link ", 5) && link_count < PROCESSES)
            links[link_count++] = (struct link){&gpus[number(line, "gpu", "0")], &gpus[number(line, "to", "0")],
                                                number(line, "level", "-1"), number(line, "nvlink", "0")};
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
    int whole = handle >= gpus && handle < gpus + gpu_count, part = handle >= migs && handle < migs + mig_count;
    return whole || part ? handle->error : INVALID_ARGUMENT;
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
    for (unsigned i = 0; i < mig_count; i++)
        if (!strcmp(migs[i].uuid, uuid)) {
            *handle = &migs[i];
            return migs[i].error;
        }
    return NOT_FOUND;
}

int nvmlDeviceGetMigMode(struct gpu *g, unsigned *current, unsigned *pending) {
    FIND(g);
    *current = *pending = g->mig > 0;
    return g->mig < 0 ? NOT_SUPPORTED : SUCCESS;
}

int nvmlDeviceGetMaxMigDeviceCount(struct gpu *g, unsigned *count) {
    FIND(g);
    *count = 7;
    return SUCCESS;
}

int nvmlDeviceGetMigDeviceHandleByIndex(struct gpu *g, unsigned index, struct gpu **handle) {
    FIND(g);
    for (unsigned i = 0, seen = 0; i < mig_count; i++)
        if (migs[i].parent == g - gpus && seen++ == index) {
            *handle = &migs[i];
            return SUCCESS;
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

int nvmlDeviceGetTotalEccErrors(struct gpu *g, int kind, int counter, bytes *count) { /* 1, 0: uncorrected, volatile */
    FIND(g);
    *count = kind == 1 && counter == 0 ? g->ecc : 0;
    return g->ecc < 0 ? NOT_SUPPORTED : SUCCESS;
}

int nvmlDeviceGetRemappedRows(struct gpu *g, unsigned *corrected, unsigned *uncorrected, unsigned *pending, unsigned *failed) {
    FIND(g);
    *corrected = *uncorrected = *pending = 0, *failed = g->unmapped;
    return g->unmapped < 0 ? NOT_SUPPORTED : SUCCESS;
}

int nvmlDeviceGetRetiredPagesPendingStatus(struct gpu *g, unsigned *pending) {
    FIND(g);
    *pending = g->retire;
    return g->retire < 0 ? NOT_SUPPORTED : SUCCESS;
}

static struct link *between(struct gpu *one, struct gpu *other) {
    for (unsigned i = 0; i < link_count; i++)
        if ((links[i].one == one && links[i].other == other) || (links[i].one == other && links[i].other == one))
            return &links[i];
    return NULL;
}

int nvmlDeviceGetP2PStatus(struct gpu *one, struct gpu *other, int kind, int *status) { /* 2: NVLink; 0: yes, 5: no */
    FIND(one);
    FIND(other);
    struct link *link = between(one, other);
    *status = kind == 2 && link && link->nvlink ? 0 : 5;
    return SUCCESS;
}

int nvmlDeviceGetTopologyCommonAncestor(struct gpu *one, struct gpu *other, int *level) {
    FIND(one);
    FIND(other);
    struct link *link = between(one, other);
    *level = link ? link->level : -1;
    return *level < 0 ? NOT_SUPPORTED : SUCCESS;
}

struct process_info { unsigned pid; bytes memory; unsigned gpu_instance, compute_instance; };

int nvmlDeviceGetComputeRunningProcesses_v3(struct gpu *g, unsigned *count, struct process_info *info) {
    FIND(g);
    unsigned room = *count, seen = 0;
    for (unsigned i = 0; i < process_count; i++) {
        if (processes[i].on != g) continue;
        if (info && seen < room) info[seen] = (struct process_info){processes[i].pid, 1 << 20, ~0u, ~0u};
        seen++;
    }
    *count = seen;
    return seen > room ? TOO_SMALL : SUCCESS;
}

/* Which of the events it has told, and the GPUs that are registered in it: a bit each. */
struct set { unsigned told; bytes registered; };

int nvmlEventSetCreate(struct set **set) {
    int error = ready();
    if (error) return error;
    *set = calloc(1, sizeof **set);
    (*set)->told = xid_count;
    return SUCCESS;
}

int nvmlEventSetFree(struct set *set) {
    free(set);
    return SUCCESS;
}

int nvmlDeviceGetSupportedEventTypes(struct gpu *g, bytes *types) {
    FIND(g);
    *types = g->deaf ? 0 : g->ecc < 0 ? 8 : 10; /* 8: an Xid, 2: a double-bit error of memory, only where there is ECC */
    return SUCCESS;
}

int nvmlDeviceRegisterEvents(struct gpu *g, bytes types, struct set *set) {
    FIND(g);
    if (g->deaf || (types & ~(g->ecc < 0 ? 8ull : 10ull))) return NOT_SUPPORTED;
    set->registered |= 1ull << (g - gpus);
    return SUCCESS;
}

int nvmlEventSetWait_v2(struct set *set, struct event *data, unsigned milliseconds) {
    (void)milliseconds; /* nothing comes while it waits */
    int error = ready();
    if (error) return error;
    while (set->told < xid_count) {
        *data = xids[set->told++];
        if (set->registered >> (data->device - gpus) & 1) return SUCCESS;
    }
    return TIMEOUT;
}

int nvmlDeviceGetGpuInstanceId(struct gpu *g, unsigned *id) {
    FIND(g);
    *id = g - migs;
    return SUCCESS;
}
