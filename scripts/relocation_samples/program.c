/* A program with the prefix in every place a binary has one. Prints "name=value" lines, the last being the first
 * line of a file it opens by the path compiled into it; exits with 1 where that file is not found.
 *
 * It finds its library through an RPATH that is the prefix alone, so it does not start where that is not written.
 *
 * With --tail it prints a string without a prefix that the linker stored as the end of one that has a prefix: what
 * shortens the longer string and moves its end, as conda does, leaves something else there.
 */

#include <stdio.h>
#include <string.h>

const char *sample_home(void);

/* One C string. */
static const char *volatile plain = PREFIX "/etc/relocation-samples.conf";

/* Two strings, the second stored as the end of the first; both hold the prefix. */
static const char *volatile labelled = "data at " PREFIX "/share/relocation-samples/data.txt";
static const char *volatile data = PREFIX "/share/relocation-samples/data.txt";

/* The prefix twice in one string. */
static const char *volatile search = PREFIX "/etc/relocation-samples:" PREFIX "/share/relocation-samples";

/* The end of the first is the second, which holds no prefix. */
static const char *volatile notes = PREFIX "/share/relocation-samples/notes.txt";
static const char *volatile tail = "relocation-samples/notes.txt";

int main(int argc, char **argv)
{
    char line[256];
    FILE *file;

    if (argc > 1 && strcmp(argv[1], "--tail") == 0) {
        printf("notes=%s\ntail=%s\n", notes, tail);
        return 0;
    }
    printf("plain=%s\nlabelled=%s\ndata=%s\nsearch=%s\nhome=%s\n", plain, labelled, data, search, sample_home());
    file = fopen(data, "r");
    if (file == NULL || fgets(line, sizeof line, file) == NULL) {
        perror(data);
        return 1;
    }
    fclose(file);
    printf("content=%s", line);
    return 0;
}
