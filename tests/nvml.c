/* A driver with two imaginary GPUs, for machines without one: what pynvml asks of libnvidia-ml.so.1.

   GPU 0 says everything; GPU 1 has no power meter and no temperature. The process named by FAKE_GPU_PID holds 3 GB of
   GPU 0, process 1 another one. FAKE_GPU_FAILS makes every look fail, as when a GPU has fallen off the bus. */
#include <stdlib.h>
#include <string.h>

typedef struct { int index; } Device;
typedef struct { unsigned long long total, free, used; } Memory;
typedef struct { unsigned int gpu, memory; } Utilization;
typedef struct {
  unsigned int pid;
  unsigned long long used;
  unsigned int gpu_instance, compute_instance;
} Process;

enum { OK = 0, NOT_SUPPORTED = 3, INSUFFICIENT_SIZE = 7, LOST = 15 };
static Device devices[2] = {{0}, {1}};
static int is_open = 0;

int nvmlInitWithFlags(unsigned int flags) { (void)flags; is_open++; return OK; }
int nvmlInit_v2(void) { is_open++; return OK; }
int nvmlShutdown(void) { is_open--; return OK; }
const char *nvmlErrorString(int code) { (void)code; return "imaginary"; }

int nvmlDeviceGetCount_v2(unsigned int *count) {
  if (!is_open || getenv("FAKE_GPU_FAILS")) return LOST;
  *count = 2;
  return OK;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned int index, Device **device) { *device = &devices[index]; return OK; }

int nvmlDeviceGetName(Device *device, char *name, unsigned int size) {
  (void)device;
  strncpy(name, "Imaginary GPU", size);
  return OK;
}

int nvmlDeviceGetMemoryInfo(Device *device, Memory *memory) {
  memory->total = 8000000000ULL;
  memory->used = device->index ? 1000000000ULL : 5000000000ULL;
  memory->free = memory->total - memory->used;
  return OK;
}

int nvmlDeviceGetUtilizationRates(Device *device, Utilization *found) {
  found->gpu = device->index ? 0 : 87;
  found->memory = 20;
  return OK;
}

int nvmlDeviceGetTemperature(Device *device, int sensor, unsigned int *celsius) {
  (void)sensor;
  if (device->index) return NOT_SUPPORTED;
  *celsius = 61;
  return OK;
}

int nvmlDeviceGetPowerUsage(Device *device, unsigned int *milliwatts) {
  if (device->index) return NOT_SUPPORTED;
  *milliwatts = 250500;
  return OK;
}

int nvmlDeviceGetComputeRunningProcesses_v3(Device *device, unsigned int *count, Process *found) {
  const char *own = getenv("FAKE_GPU_PID");
  unsigned int present = device->index ? 0 : own ? 2 : 1;
  if (*count < present) { *count = present; return INSUFFICIENT_SIZE; }
  *count = present;
  if (present) found[0] = (Process){1, 1000000000ULL, 0, 0};
  if (present > 1) found[1] = (Process){(unsigned int)atoi(own), 3000000000ULL, 0, 0};
  return OK;
}
