/* Loads the libraries named by its arguments, each for itself; the first is plugin.c, which is called with the last
 * argument. */
#include <dlfcn.h>
#include <stdio.h>

int main(int argc, char **argv)
{
    void *plugin = NULL;
    for (int i = 1; i + 1 < argc; i++) {
        void *library = dlopen(argv[i], RTLD_NOW | RTLD_LOCAL);
        if (!library) {
            fprintf(stderr, "%s\n", dlerror());
            return 2;
        }
        plugin = plugin ? plugin : library;
    }
    int (*connects)(const char *) = plugin ? (int (*)(const char *)) dlsym(plugin, "plugin_connects") : NULL;
    return connects ? connects(argv[argc - 1]) : 3;
}
