/**
 * Compiled code of earlier calls, with which a command starts in a third of the time: what it costs to read and compile all modules is
 * paid by whoever waits for a machine, too.
 *
 * It lies in the peer's home, beside that of the disks' threads, and only where the daemon has made that folder: code that others may
 * write is not run. Node checks that it belongs to the source that is there.
 */
import { lstatSync } from 'node:fs'
import { enableCompileCache } from 'node:module'
import { parseArgs } from 'node:util'
import { homePaths, resolveHome } from '../src/node/home.ts'

export function useCompiledCode(args: string[]): void {
  const { compiled } = homePaths(resolveHome(homeOption(args)))
  if (isOwn(compiled)) enableCompileCache(compiled)
}

/** As the program will read it, which is not loaded yet. */
function homeOption(args: string[]): string | undefined {
  const { home } = parseArgs({ args, options: { home: { type: 'string' } }, strict: false }).values
  return typeof home === 'string' ? home : undefined
}

function isOwn(folder: string): boolean {
  try {
    const stats = lstatSync(folder)
    return stats.isDirectory() && stats.uid === process.getuid?.() && (stats.mode & 0o077) === 0
  } catch {
    // Not there, or not to be had: the command will say what is wrong with the home.
    return false
  }
}
