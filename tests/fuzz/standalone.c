/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * standalone.c - runs a fuzz target without a fuzzer.
 *
 *	fuzz_addr                runs tests/fuzz/corpus/addr: each file, and for some seconds what
 *	                         comes of it by cutting it short and by changing single bytes
 *	fuzz_addr FILE|DIR...    runs just these files
 */
#include <dirent.h>
#include <sys/stat.h>
#include <time.h>

#include "fuzz.h"

/* Of longer files only so many bytes are played with, and only for so long: this is a part of
 * `make check`. */
#define PLAY_MAX 600
#define PLAY_SECONDS 3

static unsigned long ninputs;
static unsigned nfiles;
static time_t start;

static void
run(const uint8_t *data, size_t size)
{
	uint8_t *copy = fuzz_alloc(size);

	memcpy(copy, data, size);
	(void)LLVMFuzzerTestOneInput(copy, size);
	free(copy);
	ninputs++;
}

static void
play(uint8_t *data, size_t size)
{
	static const uint8_t strange[] = {0, '\n', ' ', '"', '%', '/', '9', ':', '<', 0xff};
	size_t n = size < PLAY_MAX ? size : PLAY_MAX;

	for (size_t i = 0; i < n && time(NULL) - start <= PLAY_SECONDS; i++) {
		uint8_t was = data[i];

		run(data, i);
		data[i] = strange[i % sizeof strange];
		run(data, size);
		data[i] = (uint8_t)(was ^ (1u << i % 8));
		run(data, size);
		data[i] = was;
	}
}

static void
run_file(const char *path, bool playing)
{
	FILE *f = fopen(path, "rb");
	uint8_t *data = NULL;
	size_t size = 0, got;

	if (f == NULL) {
		perror(path);
		exit(99);
	}
	do {
		data = realloc(data, size + 65536);
		if (data == NULL)
			abort();
		got = fread(data + size, 1, 65536, f);
		size += got;
	} while (got > 0);
	fclose(f);
	nfiles++;
	run(data, size);
	if (playing)
		play(data, size);
	free(data);
}

static void
run_path(const char *path, bool playing)
{
	struct dirent **names;
	struct stat st;
	int n;

	if (stat(path, &st) != 0 || !S_ISDIR(st.st_mode)) {
		run_file(path, playing);
		return;
	}
	n = scandir(path, &names, NULL, alphasort);
	for (int i = 0; i < n; i++) {
		char file[4096];

		snprintf(file, sizeof file, "%s/%s", path, names[i]->d_name);
		if (names[i]->d_name[0] != '.')
			run_path(file, playing);
		free(names[i]);
	}
	if (n >= 0)
		free(names);
}

int
main(int argc, char **argv)
{
	const char *name = strrchr(argv[0], '/'), *srcdir = getenv("srcdir");
	char corpus[4096];

	start = time(NULL);
	name = name != NULL ? name + 1 : argv[0];
	if (strncmp(name, "fuzz_", 5) == 0)
		name += 5;
	snprintf(
	    corpus, sizeof corpus, "%s/tests/fuzz/corpus/%s", srcdir != NULL ? srcdir : ".", name);
	if (argc < 2)
		run_path(corpus, true);
	for (int i = 1; i < argc; i++)
		run_path(argv[i], false);
	printf("fuzz_%s: %lu inputs of %u files\n", name, ninputs, nfiles);
	/* a corpus that is not there must not look like one without findings */
	return nfiles > 0 ? 0 : 99;
}
