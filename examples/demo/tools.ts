/**
 * The programs that the demo needs beside Node: found, installed where that may be done, or named for a person.
 */
import { accessSync, constants } from 'node:fs'
import { delimiter, join } from 'node:path'
import { DemoError, runChild } from './children.ts'
import { Bar, say, step } from './progress.ts'

interface Tool {
  program: string
  /** Debian packages that bring it. */
  packages: string[]
}

const FOR_GUESTS: Tool[] = [{ program: 'qemu-system-x86_64', packages: ['qemu-system-x86'] }]
const FOR_QCOW2: Tool[] = [{ program: 'qemu-img', packages: ['qemu-utils'] }]
const FOR_BUILDING: Tool[] = [
  { program: 'mmdebstrap', packages: ['mmdebstrap'] },
  { program: 'grub-install', packages: ['grub2-common', 'grub-pc-bin'] },
  { program: 'sfdisk', packages: ['fdisk'] },
  { program: 'mkfs.ext4', packages: ['e2fsprogs'] }
]

/** Administrators' programs are often not on a user's PATH. */
const EXTRA_FOLDERS = ['/usr/sbin', '/sbin', '/usr/local/sbin']

function isInstalled(program: string): boolean {
  return [...(process.env.PATH ?? '').split(delimiter), ...EXTRA_FOLDERS].some(folder => {
    try {
      accessSync(join(folder, program), constants.X_OK)
      return true
    } catch {
      return false // not in this folder
    }
  })
}

/** How to become root without asking anybody: nothing as root, `sudo -n` where it works; undefined if not at all. */
export async function rootPrefix(): Promise<string[] | undefined> {
  if (process.getuid?.() === 0) return []
  if (!isInstalled('sudo')) return undefined
  try {
    await runChild('sudo', ['-n', 'true'])
    return ['sudo', '-n', '-E']
  } catch (error) {
    if (error instanceof DemoError) return undefined // sudo wants a password
    throw error
  }
}

/** Installs what is missing. @throws DemoError naming the packages if that cannot be done here */
export async function ensureTools(needs: { building: boolean; qcow2: boolean }): Promise<void> {
  const wanted = [...FOR_GUESTS, ...(needs.qcow2 ? FOR_QCOW2 : []), ...(needs.building ? FOR_BUILDING : [])]
  const missing = wanted.filter(tool => !isInstalled(tool.program))
  if (missing.length === 0) return
  const packages = [...new Set(missing.flatMap(tool => tool.packages))]
  const byHand = `apt-get install --no-install-recommends ${packages.join(' ')}`
  const programs = missing.map(tool => tool.program).join(', ')
  const root = await rootPrefix()
  if (root === undefined || !isInstalled('apt-get')) {
    throw new DemoError(
      `${programs} is missing, and cannot be installed from here. Please run, as root:\n\n  ${byHand}\n`
    )
  }
  step(`Installing ${packages.join(', ')}`)
  const bar = new Bar()
  const environment = ['env', 'DEBIAN_FRONTEND=noninteractive']
  const apt = async (args: string[]) => {
    const [file = '', ...rest] = [...root, ...environment, 'apt-get', ...args]
    // apt tells its progress in lines like `pmstatus:qemu-system-x86:42.8:…` on the descriptor that it is given
    await runChild(file, rest, {
      onLine: line => {
        const [, kind, name, percent] = line.match(/^(dlstatus|pmstatus):(.+?):(\d+\.\d+):/) ?? []
        if (kind === 'dlstatus') bar.update(Number(percent) / 200, 'downloading')
        if (kind === 'pmstatus') bar.update(0.5 + Number(percent) / 200, `installing ${name}`)
      }
    })
  }
  try {
    await apt(['update', '-qq'])
    await apt(['install', '-yqq', '--no-install-recommends', '-o', 'APT::Status-Fd=1', ...packages])
  } catch (error) {
    bar.break()
    throw new DemoError(`${(error as Error).message}\n\nPlease run, as root:\n\n  ${byHand}\n`)
  }
  bar.end('installed')
  const still = missing.filter(tool => !isInstalled(tool.program))
  if (still.length > 0) throw new DemoError(`apt-get has run, and yet ${still[0]?.program} is not to be found`)
  say('These packages stay installed after the demo.')
}
