/* A shared library with the prefix in a C string of its own. */

const char *sample_home(void)
{
    return PREFIX "/share/relocation-samples";
}
