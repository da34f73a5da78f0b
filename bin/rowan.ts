/**
 * The command line: see `rowan --help`. Leaves with 0 done, 1 failed, 2 wrong usage.
 */
import { useCompiledCode } from './compiled-code.ts'

const args = process.argv.slice(2)
useCompiledCode(args)
// After that, so that it may be compiled already.
const { main } = await import('./program.ts')

process.exit(await main(args))
