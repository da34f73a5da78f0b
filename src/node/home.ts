/**
 * Where one peer keeps everything: its home folder.
 *
 * The home and every folder in it are for their owner only (0700); the sockets in it are 0600. A home that exists with
 * wider permissions is narrowed when nothing but rowan's own is in it, refused when others may write to it.
 */
import { accessSync, chmodSync, constants, existsSync, mkdirSync, readdirSync, type Stats, statSync } from 'node:fs'
import { homedir } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import { RowanError } from '../errors.ts'
import { checkSocketFolder } from '../machine/machine-socket.ts'
import { checkSocketPath } from '../socket-path.ts'

export interface HomePaths {
  readonly directory: string
  readonly config: string
  readonly keys: string
  readonly catalog: string
  readonly pool: string
  readonly machines: string
  readonly tmp: string
  /** Compiled code, made anew where it is missing. */
  readonly compiled: string
  readonly controlSocket: string
  /** The machines' sockets. */
  readonly nbdSockets: string
  /** Which accelerator is faster on this host. */
  readonly accelerator: string
}

/** The paths inside a home; makes nothing. */
export function homePaths(directory: string): HomePaths {
  const inside = (name: string) => join(directory, name)
  return {
    directory,
    config: inside('config.toml'),
    keys: inside('keys'),
    catalog: inside('catalog'),
    pool: inside('pool'),
    machines: inside('machines'),
    tmp: inside('tmp'),
    compiled: inside('compiled'),
    controlSocket: inside('control.sock'),
    nbdSockets: inside('nbd'),
    accelerator: inside('accelerator.json')
  }
}

/**
 * The home folder that a command means: `--home`, else $ROWAN_HOME, else the platform's folder for a user's data.
 *
 * @returns an absolute path
 */
export function resolveHome(
  option: string | undefined,
  env: NodeJS.ProcessEnv = process.env,
  platform: NodeJS.Platform = process.platform
): string {
  if (option !== undefined && option !== '') return resolve(option)
  if (env.ROWAN_HOME) return resolve(env.ROWAN_HOME)
  const user = env.HOME || homedir()
  if (platform === 'win32') return join(env.LOCALAPPDATA || join(user, 'AppData', 'Local'), 'rowan')
  if (platform === 'darwin') return join(user, 'Library', 'Application Support', 'rowan')
  // The specification wants a relative XDG_DATA_HOME ignored.
  return join(env.XDG_DATA_HOME?.startsWith('/') ? env.XDG_DATA_HOME : join(user, '.local', 'share'), 'rowan')
}

/**
 * Makes the home and its folders, or checks those that are there.
 *
 * @throws RowanError SOCKET_PATH_TOO_LONG before anything is made; HOME_UNUSABLE
 */
export function makeHome(directory: string): HomePaths {
  const paths = homePaths(directory)
  checkSocketPath(paths.controlSocket)
  checkSocketFolder(paths.nbdSockets)
  const { keys, catalog, pool, machines, tmp, compiled, nbdSockets } = paths
  for (const folder of [directory, keys, catalog, pool, machines, tmp, compiled, nbdSockets]) {
    try {
      makeFolder(folder)
      const stats = statSync(folder)
      if (!stats.isDirectory()) throw new RowanError('HOME_UNUSABLE', `${folder} is not a folder`)
      if (process.platform !== 'win32' && (stats.mode & 0o077) !== 0) narrow(folder, stats, paths)
      accessSync(folder, constants.R_OK | constants.W_OK | constants.X_OK)
    } catch (error) {
      if (error instanceof RowanError) throw error
      const says = `${folder}: ${(error as Error).message}`
      throw new RowanError('HOME_UNUSABLE', says, { cause: error })
    }
  }
  return paths
}

/** As `recursive` does, which never returns where a folder that is there says that it is not (/proc). */
function makeFolder(path: string): void {
  if (existsSync(path)) return
  if (!existsSync(dirname(path))) makeFolder(dirname(path))
  try {
    mkdirSync(path, { mode: 0o700 })
  } catch (error) {
    // Somebody else may have made it meanwhile.
    if (!existsSync(path)) throw error
  }
}

/** Closes a folder that exists to others; never one that is also used for something else, such as /tmp. */
function narrow(folder: string, stats: Stats, paths: HomePaths): void {
  const ours = new Set(Object.values(paths).map(path => path.slice(paths.directory.length + 1)))
  const shared = folder === paths.directory && readdirSync(folder).some(name => !ours.has(name))
  if (!shared) {
    chmodSync(folder, 0o700)
    return
  }
  if ((stats.mode & 0o022) === 0) return
  const mode = (stats.mode & 0o7777).toString(8).padStart(4, '0')
  throw new RowanError('HOME_UNUSABLE', `${folder} has mode ${mode} and other things in it: others may write to it`)
}
