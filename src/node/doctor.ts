/**
 * What can be checked from outside: the host's programs, the home, the settings, and the store while no daemon has it.
 *
 * Nothing is made or changed. A check that cannot be done is a row that says so.
 */
import { execFile } from 'node:child_process'
import { accessSync, constants, existsSync, statfsSync, statSync } from 'node:fs'
import { dirname } from 'node:path'
import { asRowanError, errorKind, RowanError } from '../errors.ts'
import { kvmUsable } from '../machine/guest.ts'
import { checkSocketFolder } from '../machine/machine-socket.ts'
import { QEMU } from '../machine/qemu.ts'
import { forgetArguments } from '../page-cache.ts'
import { checkSocketPath } from '../socket-path.ts'
import { Catalog } from '../store/catalog.ts'
import type { DoctorRow } from './command-results.ts'
import type { HomePaths } from './home.ts'
import { loadSettings } from './settings.ts'
import { formatSize } from './units.ts'

const MIN_NODE_MAJOR = 24
const LOW_SPACE_BYTES = 2e9
const TOOL_TIMEOUT_MS = 10_000

interface Tool {
  name: string
  package: string
  use: string
  /** What it must be able to do, where its version does not say. */
  tries?: string[]
}

const TOOLS: Tool[] = [
  { name: QEMU, package: 'qemu-system-x86', use: '`rowan run`' },
  { name: 'qemu-img', package: 'qemu-utils', use: 'publishing qcow2 images' },
  { name: 'passt', package: 'passt', use: '`rowan run --net user`' },
  { name: 'fallocate', package: 'util-linux', use: 'the space of what a guest trims' },
  { name: 'flock', package: 'util-linux', use: 'the space of what a guest trims' },
  { name: 'dd', package: 'coreutils', use: 'what is left of a disk that failed', tries: forgetArguments('/dev/null') }
]

/** @returns one row for each check, in the order in which problems are best solved */
export async function checkHost(home: HomePaths): Promise<DoctorRow[]> {
  return [
    checkNode(),
    row('home', () => checkHome(home)),
    row('space', () => checkSpace(home)),
    row('sockets', () => {
      checkSocketPath(home.controlSocket)
      checkSocketFolder(home.nbdSockets)
      return { detail: 'their paths fit' }
    }),
    row('settings', () => {
      loadSettings(home.config, { optional: true })
      return { detail: existsSync(home.config) ? home.config : 'defaults; there is no config.toml' }
    }),
    ...(await Promise.all(TOOLS.map(checkTool))),
    kvmUsable()
      ? { check: 'kvm', ok: true, detail: 'it can be used; `rowan run` tries once whether it is faster', advice: '' }
      : {
          check: 'kvm',
          ok: false,
          detail: '/dev/kvm is missing or not for this user; guests run slowly',
          advice: 'Switch virtualisation on in the firmware, and join the group kvm: `sudo adduser $USER kvm`.'
        }
  ]
}

/** Opens and closes the catalog. */
export async function checkCatalog(home: HomePaths): Promise<DoctorRow> {
  if (!existsSync(home.catalog)) return { check: 'catalog', ok: true, detail: 'not made yet', advice: '' }
  try {
    const catalog = await Catalog.open(home.catalog)
    await catalog.close()
    return { check: 'catalog', ok: true, detail: 'it opens', advice: '' }
  } catch (error) {
    return failed('catalog', error)
  }
}

function row(check: string, work: () => { detail: string; problem?: string }): DoctorRow {
  try {
    const { detail, problem } = work()
    return { check, ok: problem === undefined, detail, advice: problem ?? '' }
  } catch (error) {
    return failed(check, error)
  }
}

function failed(check: string, error: unknown): DoctorRow {
  const { code, message } = asRowanError(error, 'HOME_UNUSABLE')
  return { check, ok: false, detail: `${message} [${code}]`, advice: errorKind(code).advice }
}

function checkNode(): DoctorRow {
  const ok = Number(process.versions.node.split('.')[0]) >= MIN_NODE_MAJOR
  const advice = ok ? '' : `Node ${MIN_NODE_MAJOR} or newer is needed; \`npm ci\` in the checkout brings it.`
  return { check: 'node', ok, detail: process.version, advice }
}

function checkHome({ directory }: HomePaths): { detail: string } {
  if (!existsSync(directory)) return { detail: `${directory} is not made yet; \`rowan up\` makes it` }
  if (!statSync(directory).isDirectory()) throw new RowanError('HOME_UNUSABLE', `${directory} is not a folder`)
  accessSync(directory, constants.R_OK | constants.W_OK | constants.X_OK)
  const mode = (statSync(directory).mode & 0o777).toString(8)
  return { detail: `${directory}, mode ${mode}` }
}

function checkSpace({ directory }: HomePaths): { detail: string; problem?: string } {
  let there = directory
  while (!existsSync(there)) there = dirname(there)
  const { bavail, bsize } = statfsSync(there)
  const detail = `${formatSize(bavail * bsize)} free`
  return bavail * bsize >= LOW_SPACE_BYTES ? { detail } : { detail, problem: 'Free some space, or move the home.' }
}

async function checkTool(tool: Tool): Promise<DoctorRow> {
  const [failure, output] = await new Promise<[NodeJS.ErrnoException | null, string]>(resolve =>
    execFile(tool.name, tool.tries ?? ['--version'], { timeout: TOOL_TIMEOUT_MS }, (error, stdout) =>
      resolve([error as NodeJS.ErrnoException | null, stdout])
    )
  )
  const advice = `For ${tool.use}: \`sudo apt install ${tool.package}\`.`
  if (failure?.code === 'ENOENT') return { check: tool.name, ok: false, detail: 'not installed', advice }
  if (failure !== null)
    return { check: tool.name, ok: false, detail: `does not run: ${lastLine(failure.message)}`, advice }
  const detail = tool.tries === undefined ? output.split('\n')[0]!.trim() : 'it can do what is needed'
  return { check: tool.name, ok: true, detail, advice: '' }
}

/** Of what a program complained, or of the command where it said nothing. */
function lastLine(text: string): string {
  return text.trim().split('\n').at(-1)!
}
