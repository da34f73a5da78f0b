/**
 * libnbd's shell. It runs the first `python3` on the PATH, which may be another one than the system's, for which
 * libnbd is installed; so the system's comes first here.
 */
import { delimiter } from 'node:path'
import { runOk } from './processes.ts'

export async function nbdsh(args: string[], options: { timeoutMs?: number } = {}): Promise<string> {
  return await runOk('nbdsh', args, { env: nbdshEnvironment(), ...options })
}

export function nbdshEnvironment(): NodeJS.ProcessEnv {
  return { ...process.env, PATH: ['/usr/bin', process.env.PATH ?? ''].join(delimiter) }
}
