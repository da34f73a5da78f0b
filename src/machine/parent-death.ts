/**
 * A child that does not outlive us, also when we are killed and can pass nothing on.
 *
 * Node cannot ask for a signal at a parent's death; util-linux's `setpriv` can, and becomes the program. Where it is not
 * installed the child runs without.
 */
import { accessSync, constants } from 'node:fs'
import { delimiter, join } from 'node:path'

export interface Command {
  file: string
  args: string[]
}

const SETPRIV = 'setpriv'

/**
 * The command, made to end when the process that starts it is gone: by SIGTERM, on which a guest's QEMU still writes down what
 * it has, or by SIGKILL, where nothing of it is worth waiting for.
 */
export function endingWithParent(
  command: Command,
  path = process.env.PATH ?? '',
  signal: 'TERM' | 'KILL' = 'TERM'
): Command {
  // What is missing is told by name by whoever starts it, not by setpriv.
  if (findProgram(command.file, path) === undefined) return command
  const setpriv = findProgram(SETPRIV, path)
  if (setpriv === undefined) return command
  return { file: setpriv, args: ['--pdeathsig', signal, '--', command.file, ...command.args] }
}

/** Where a program is, by the rules of execvp; undefined if it is nowhere. */
export function findProgram(name: string, path: string): string | undefined {
  const places = name.includes('/') ? [name] : path.split(delimiter).map(folder => join(folder || '.', name))
  return places.find(place => {
    try {
      accessSync(place, constants.X_OK)
      return true
    } catch {
      // Not here, or not ours to run: the next one may be.
      return false
    }
  })
}
