/* A program of a deployment that runs until its standard input ends: it loads the libraries that are its arguments,
 * and says that it is ready. With "--thread" as the first argument it has a second thread. */
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static void *idle(void *nothing) {
    for (;;) pause();
    return nothing;
}

int main(int count, char **names) {
    int first = 1;
    pthread_t thread;
    if (count > 1 && !strcmp(names[1], "--thread")) first++;
    if (first == 2 && pthread_create(&thread, 0, idle, 0)) return 1;
    for (int i = first; i < count; i++)
        if (!dlopen(names[i], RTLD_NOW)) return fprintf(stderr, "%s\n", dlerror()), 1;
    puts("ready");
    fflush(stdout);
    while (getchar() != EOF) {}
    return 0;
}
