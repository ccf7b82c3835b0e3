/* A program of a deployment that runs until its standard input ends: it loads the libraries that are its arguments,
 * and says that it is ready. */
#include <dlfcn.h>
#include <stdio.h>

int main(int count, char **names) {
    for (int i = 1; i < count; i++)
        if (!dlopen(names[i], RTLD_NOW)) return fprintf(stderr, "%s\n", dlerror()), 1;
    puts("ready");
    fflush(stdout);
    while (getchar() != EOF) {}
    return 0;
}
