/**
 * A disk that refuses to write for a while: a real ext4, on a loop device, on a file of nbdfuse, on nbdkit's error filter. The kernel
 * then keeps what it could not write as if it had been written, and the next sync says that all is well.
 */
import { access, mkdir, readFile, rm, writeFile } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { temporaryFolder } from './folders.ts'
import { runOk, start } from './processes.ts'
import { waitUntil } from './wait.ts'

export const FAILING_DISK_TOOLS = ['nbdkit', 'nbdfuse', 'losetup', 'mkfs.ext4'] as const

export interface FailingDisk {
  /** On it. */
  folder: string
  /** From now on every write of the disk fails. */
  refuse(): Promise<void>
  accept(): Promise<void>
  /** Has the kernel write what it has of a file, as it does by itself after half a minute; nobody asks it what came of that. */
  writeBack(file: string): Promise<void>
  /** As a power loss does: the page cache is gone. */
  forget(): Promise<void>
}

/**
 * @param error - what its writes fail with
 * @param close - closes what is open on it, also of a test that failed: else it cannot be unmounted
 */
export async function withFailingDisk(
  error: 'EIO' | 'ENOSPC',
  work: (disk: FailingDisk) => Promise<void>,
  close: () => Promise<unknown>
): Promise<void> {
  const place = await temporaryFolder()
  const [socket, file, mounted, refusing] = ['socket', 'disk', 'mounted', 'refusing'].map(name =>
    join(place, name)
  ) as [string, string, string, string]
  await writeFile(file, '')
  await mkdir(mounted)
  const errors = [`error=${error}`, 'error-pwrite-rate=100%', `error-file=${refusing}`]
  const server = start('nbdkit', ['--foreground', '--unix', socket, '--filter=error', 'memory', '256M', ...errors])
  await waitUntil('nbdkit', () =>
    access(socket).then(
      () => true,
      () => false
    )
  )
  const fuse = start('nbdfuse', [file, `nbd+unix:///?socket=${socket}`])
  await waitUntil('the disk as a file', async () => (await runOk('stat', ['-c', '%s', file])).trim() !== '0')
  const loop = (await runOk('losetup', ['--find', '--show', file])).trim()
  // Nothing but what the test does is written while writes are refused: an error in the journal would end the file system.
  const mount = () => runOk('mount', ['-o', 'commit=300', loop, mounted])
  try {
    await runOk('mkfs.ext4', ['-q', loop])
    await mount()
    try {
      await work({
        folder: mounted,
        refuse: async () => {
          await runOk('sync', ['--file-system', mounted])
          await writeFile(refusing, '')
        },
        accept: () => rm(refusing),
        writeBack: async path => {
          const before = await writesOf(loop)
          await runOk('dd', [`if=${path}`, 'of=/dev/null', 'iflag=nocache', 'count=0', 'status=none'])
          await waitUntil('the kernel to write', async () => {
            const { ended, underWay } = await writesOf(loop)
            return ended > before.ended && underWay === 0
          })
        },
        forget: async () => {
          await runOk('umount', [mounted])
          await mount()
        }
      })
    } finally {
      await close()
      await runOk('umount', [mounted])
    }
  } finally {
    await runOk('losetup', ['--detach', loop])
    await runOk('umount', [file])
    await fuse.exited
    await server.stop()
  }
}

/** Documentation/block/stat.rst: writes that have ended, well or not, and requests under way. */
async function writesOf(loop: string): Promise<{ ended: number; underWay: number }> {
  const fields = (await readFile(join('/sys/block', basename(loop), 'stat'), 'utf8')).trim().split(/\s+/).map(Number)
  return { ended: fields[4]!, underWay: fields[8]! }
}
