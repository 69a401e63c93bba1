.PHONY: check
check:
	node_modules/.bin/biome ci .
	node_modules/.bin/bun check
