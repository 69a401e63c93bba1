/* Exchanges pairs of names in a directory as fast as it can, as somebody who tries to lead a copy astray: DIRECTORY/pN with DIRECTORY/qN.
   swapper DIRECTORY PAIRS COUNTER SEED; each swap is undone soon after, and each adds one to the 64-bit number in the file COUNTER. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	if (argc != 5 || chdir(argv[1]) != 0)
		return 2;
	unsigned pairs = (unsigned)atoi(argv[2]);
	uint32_t state = (uint32_t)strtoul(argv[4], NULL, 10) | 1;
	int fd = open(argv[3], O_RDWR);
	volatile uint64_t *count = mmap(NULL, 8, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	char (*here)[16] = calloc(pairs, 16), (*there)[16] = calloc(pairs, 16);
	if (pairs == 0 || count == MAP_FAILED || here == NULL || there == NULL)
		return 2;
	for (unsigned index = 0; index < pairs; index++) {
		snprintf(here[index], 16, "p%u", index);
		snprintf(there[index], 16, "q%u", index);
	}
	for (;;) {
		state ^= state << 13;
		state ^= state >> 17;
		state ^= state << 5;
		unsigned index = state % pairs;
		/* Away and home again, with pauses of any length from none to some microseconds. */
		for (int half = 0; half < 2; half++) {
			if (renameat2(AT_FDCWD, here[index], AT_FDCWD, there[index], RENAME_EXCHANGE) == 0)
				*count += 1;
			for (volatile uint32_t pause = (state >> (8 + 8 * half)) & 4095; pause > 0; pause--)
				;
		}
	}
}
