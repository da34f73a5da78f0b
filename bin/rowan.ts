/**
 * The command line: see `rowan --help`. Leaves with 0 done, 1 failed, 2 wrong usage.
 */
import { main } from './program.ts'

process.exit(await main(process.argv.slice(2)))
