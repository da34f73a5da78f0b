/**
 * NBD clients that nobody here wrote, against a server process: libnbd's tools, QEMU's and fio.
 *
 * Everything runs twice: in front of a plain file, and in front of a machine's disk (image in the pool, writes in its
 * layer).
 */
import { randomBytes } from 'node:crypto'
import { copyFile, mkdir, open, stat, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { hashFile } from '../tools/files.ts'
import { removeFolders, temporaryFolder } from '../tools/folders.ts'
import { writeSampleImage } from '../tools/local-machine.ts'
import { nbdsh } from '../tools/nbdsh.ts'
import { describeWithTools, fuseCanBeHad } from '../tools/need.ts'
import { endProcesses, type RunningProcess, run, runOk, start } from '../tools/processes.ts'
import { waitUntil } from '../tools/wait.ts'

const SERVE = fileURLToPath(new URL('../tools/nbd-serve.ts', import.meta.url))
const MIB = 1024 * 1024
/** No multiple of 64 KiB, as real disks are. */
const SIZE_BYTES = 48 * MIB + 12 * 1024

interface Disk {
  folder: string
  /** The content at the start. */
  image: string
  uri: (name?: string) => string
  server: RunningProcess
}

async function serveDisk(kind: string): Promise<Disk> {
  const folder = await temporaryFolder()
  const image = join(folder, 'image.raw')
  const served = join(folder, 'served.raw')
  const locked = join(folder, 'locked.raw')
  await writeSampleImage(image, SIZE_BYTES)
  for (const path of [served, locked]) await copyFile(image, path)
  const socket = join(folder, 's')
  const server = start(process.execPath, [SERVE, socket, `${kind}:disk=${served}`, `readonly:locked=${locked}`])
  await server.waitForOutput(/ready/)
  return { folder, image, uri: (name = 'disk') => `nbd+unix:///${name}?socket=${socket}`, server }
}

afterAll(async () => {
  await endProcesses()
  await removeFolders()
})

/** A disk for the tests of one client. */
function withDisk(kind: string): () => Disk {
  let disk: Disk | undefined
  beforeAll(async () => {
    disk = await serveDisk(kind)
  })
  afterAll(async () => {
    if (disk === undefined) return
    // Whatever a client did, the server is alive, leaves in peace, and had nothing to complain of.
    expect(disk.server.exit).toBeUndefined()
    expect(await disk.server.stop()).toEqual({ status: 0, signal: null })
    expect(disk.server.stderr).not.toMatch(/ warn /)
  })
  return () => disk!
}

for (const kind of ['file', 'machine']) {
  describeWithTools(`nbdinfo, ${kind}`, ['nbdinfo'], () => {
    const disk = withDisk(kind)

    test('lists the exports', async () => {
      const { exports } = JSON.parse(await runOk('nbdinfo', ['--json', '--list', disk().uri('')]))
      expect(exports).toHaveLength(2)
      expect(exports).toMatchObject([
        { 'export-name': 'disk', description: 'disk disk', 'export-size': SIZE_BYTES, is_read_only: false },
        { 'export-name': 'locked', 'export-size': SIZE_BYTES, is_read_only: true, can_trim: false, can_zero: false }
      ])
    })

    test('sees what the disk can do', async () => {
      const info = JSON.parse(await runOk('nbdinfo', ['--json', disk().uri()]))
      expect(info).toMatchObject({ protocol: 'newstyle-fixed', TLS: false, structured: true })
      expect(info.exports[0]).toMatchObject({
        can_flush: true,
        can_fua: true,
        can_trim: true,
        can_zero: true,
        can_multi_conn: true,
        can_df: true,
        can_fast_zero: true,
        can_cache: true,
        contexts: ['base:allocation', 'rowan:local'],
        block_size_minimum: 512,
        block_size_preferred: 4096,
        block_size_maximum: 32 * MIB
      })
    })

    test('maps the disk in both contexts, from end to end', async () => {
      for (const [context, types] of [
        ['base:allocation', ['data', 'hole,zero']],
        ['rowan:local', ['local']]
      ] as const) {
        const map = JSON.parse(await runOk('nbdinfo', [`--map=${context}`, '--json', disk().uri()]))
        let at = 0
        for (const { offset, length, type, description } of map) {
          expect(offset).toBe(at)
          at += length
          if (context === 'rowan:local') expect(type).toBe(0)
          else expect(types).toContain(description)
        }
        expect(at).toBe(SIZE_BYTES)
        // A machine knows the zeros of its image; a plain file is data from end to end.
        expect(map.length > 1).toBe(kind === 'machine' && context === 'base:allocation')
      }
    })

    test('is told when there is no such export', async () => {
      const { status, stderr } = await run('nbdinfo', [disk().uri('nothing')])
      expect(status).not.toBe(0)
      expect(stderr).toContain('No such file or directory for export: nothing')
    })
  })

  describeWithTools(`nbdcopy, ${kind}`, ['nbdcopy'], () => {
    const disk = withDisk(kind)

    test('copies the disk out and another one in, over several connections', async () => {
      const { folder, image, uri } = disk()
      const out = join(folder, 'out.raw')
      await runOk('nbdcopy', [uri(), out])
      expect(await hashFile(out)).toBe(await hashFile(image))
      const other = join(folder, 'other.raw')
      const bytes = Buffer.alloc(SIZE_BYTES)
      for (let at = 0; at < SIZE_BYTES; at += 4096) bytes.fill((at >> 12) % 251, at, at + (at % 3 === 0 ? 4096 : 100))
      await writeFile(other, bytes)
      await runOk('nbdcopy', ['--connections=4', '--requests=64', '--flush', other, uri()])
      await runOk('nbdcopy', ['--synchronous', uri(), out])
      expect(await hashFile(out)).toBe(await hashFile(other))
    })

    test('copies holes as holes, in either direction', async () => {
      const { folder, image, uri } = disk()
      const sparse = join(folder, 'sparse.raw')
      await writeFile(sparse, '')
      await truncate(sparse, SIZE_BYTES)
      const file = await open(sparse, 'r+')
      await file.write(Buffer.alloc(MIB, 7), 0, MIB, 8 * MIB)
      await file.close()
      await runOk('nbdcopy', ['--allocated', image, uri()])
      await runOk('nbdcopy', [sparse, uri()])
      const out = join(folder, 'sparse-out.raw')
      await runOk('nbdcopy', [uri(), out])
      expect(await hashFile(out)).toBe(await hashFile(sparse))
      // What is known to be zeros was neither read nor sent nor written.
      if (kind === 'machine') expect((await stat(out)).blocks * 512).toBeLessThan(4 * MIB)
      await runOk('nbdcopy', ['--destination-is-zero', '--sparse=4096', uri(), join(folder, 'sparse-2.raw')])
      expect(await hashFile(join(folder, 'sparse-2.raw'))).toBe(await hashFile(sparse))
    })

    test('copies with the largest requests', async () => {
      const { folder, uri } = disk()
      const [out, again] = [join(folder, 'large.raw'), join(folder, 'again.raw')]
      await runOk('nbdcopy', [`--request-size=${32 * MIB}`, uri(), out])
      await runOk('nbdcopy', [`--request-size=${32 * MIB}`, out, uri()])
      await runOk('nbdcopy', [uri(), again])
      expect(await hashFile(again)).toBe(await hashFile(out))
    })
  })

  describeWithTools(`qemu-img and qemu-io, ${kind}`, ['qemu-img', 'qemu-io'], () => {
    const disk = withDisk(kind)

    const qemuIo = async (...commands: string[]) => {
      const args = ['-f', 'raw', '-d', 'unmap', '-t', 'writeback', ...commands.flatMap(command => ['-c', command])]
      const output = await runOk('qemu-io', [...args, disk().uri()])
      expect(output).not.toMatch(/fail|error/i)
      return output
    }

    test('qemu-img converts and compares', async () => {
      const { folder, image, uri } = disk()
      await runOk('qemu-img', ['compare', '-f', 'raw', '-F', 'raw', image, uri()])
      const out = join(folder, 'out.qcow2')
      await runOk('qemu-img', ['convert', '-f', 'raw', '-O', 'qcow2', uri(), out])
      await runOk('qemu-img', ['compare', image, out])
      const other = join(folder, 'other.raw')
      const bytes = Buffer.alloc(SIZE_BYTES)
      for (let at = 0; at < SIZE_BYTES; at += 8192) bytes.fill((at >> 13) % 253, at, Math.min(at + 5000, SIZE_BYTES))
      await writeFile(other, bytes)
      await runOk('qemu-img', ['convert', '-n', '-W', '-m', '8', '-f', 'raw', '-O', 'raw', other, uri()])
      await runOk('qemu-img', ['compare', '-f', 'raw', '-F', 'raw', other, uri()])
    })

    test('qemu-img sees what is data and what is zero, and keeps it in a copy', async () => {
      const { folder, uri } = disk()
      await qemuIo('write -P 0xaa 0 4M', 'discard 1M 1M', 'write -z -u 2M 1M')
      const map = JSON.parse(await runOk('qemu-img', ['map', '-f', 'raw', '--output=json', uri()]))
      const zeroBytes = map
        .filter((part: { zero: boolean; start: number }) => part.zero && part.start < 4 * MIB)
        .reduce(
          (sum: number, part: { start: number; length: number }) => sum + Math.min(part.length, 4 * MIB - part.start),
          0
        )
      expect(zeroBytes).toBe(kind === 'machine' ? 2 * MIB : 0)
      const out = join(folder, 'mapped.qcow2')
      await runOk('qemu-img', ['convert', '-f', 'raw', '-O', 'qcow2', uri(), out])
      await runOk('qemu-img', ['compare', '-f', 'qcow2', '-F', 'raw', out, uri()])
    })

    test('qemu-io writes patterns, zeroes and discards, and reads them back', async () => {
      await qemuIo(
        'write -P 0xa1 0 1M',
        'write -P 0xb2 512 512',
        'write -z 64k 64k',
        'write -z -u 256k 128k',
        'write -f -P 0xc3 700k 4k',
        'discard 512k 64k',
        'flush',
        'read -P 0xa1 0 512',
        'read -P 0xb2 512 512',
        'read -P 0xa1 1024 64512',
        'read -P 0 64k 64k',
        'read -P 0xa1 128k 128k',
        'read -P 0 256k 128k',
        'read -P 0 512k 64k',
        'read -P 0xc3 700k 4k'
      )
      await qemuIo('read -P 0xb2 512 512', 'read -P 0xc3 700k 4k')
    })

    test('qemu-io keeps many requests in flight', async () => {
      const writes = Array.from({ length: 40 }, (_, index) => `aio_write -q -P ${index + 1} ${index * 100}k 100k`)
      const reads = Array.from({ length: 40 }, (_, index) => `aio_read -q -P ${index + 1} ${index * 100}k 100k`)
      await qemuIo(...writes, 'aio_flush', ...reads, 'aio_flush')
    })

    test('qemu-io reaches the very end of the disk and not beyond', async () => {
      await qemuIo(`write -P 0xdd ${SIZE_BYTES - 4096} 4096`, `read -P 0xdd ${SIZE_BYTES - 4096} 4096`)
      const { stdout, stderr } = await run('qemu-io', ['-f', 'raw', '-c', `write ${SIZE_BYTES} 512`, disk().uri()])
      expect(stdout + stderr).toMatch(/fail|error/i)
    })

    test('a read-only export cannot be opened for writing', async () => {
      const { status } = await run('qemu-io', ['-f', 'raw', '-c', 'write 0 512', disk().uri('locked')])
      expect(status).not.toBe(0)
      await runOk('qemu-io', ['-r', '-f', 'raw', '-c', 'read 0 512', disk().uri('locked')])
    })
  })

  describeWithTools(`nbdsh, ${kind}`, ['nbdsh'], () => {
    const disk = withDisk(kind)

    /** Runs Python lines with the handle `h` connected and libnbd's own checks off. */
    const script = async (lines: string[], name = 'disk') => {
      const all = ['import errno', 'h.set_strict_mode(0)', `h.connect_uri("${disk().uri(name)}")`, ...lines]
      await nbdsh(['-c', all.join('\n')])
    }

    test('uses every command with its flags', async () => {
      await script([
        'h.pwrite(b"x" * 4096, 8192, nbd.CMD_FLAG_FUA)',
        'assert h.pread(4096, 8192) == b"x" * 4096',
        'h.zero(1024, 8192 + 512, nbd.CMD_FLAG_FUA | nbd.CMD_FLAG_NO_HOLE)',
        'assert h.pread(2048, 8192) == b"x" * 512 + bytes(1024) + b"x" * 512',
        'h.trim(4096, 8192, nbd.CMD_FLAG_FUA)',
        'assert h.pread(4096, 8192) == bytes(4096)',
        'h.flush()',
        'h.shutdown()'
      ])
    })

    test('gets the errno of the specification, and goes on', async () => {
      await script([
        'def fails(number, call):',
        '    try:',
        '        call()',
        '    except nbd.Error as error:',
        '        assert error.errnum == number, (error.errnum, number)',
        '    else:',
        '        raise AssertionError("no error")',
        'size = h.get_size()',
        'fails(errno.EINVAL, lambda: h.pread(512, size))',
        'fails(errno.ENOSPC, lambda: h.pwrite(bytes(512), size))',
        'fails(errno.ENOSPC, lambda: h.zero(1024, size - 512))',
        'fails(errno.EINVAL, lambda: h.trim(1024, size - 512))',
        'fails(errno.EINVAL, lambda: h.pread(512, 1))',
        'fails(errno.EINVAL, lambda: h.cache(1024, size - 512))',
        'fails(errno.EINVAL, lambda: h.pread(512, 0, nbd.CMD_FLAG_REQ_ONE))',
        'fails(errno.EOVERFLOW, lambda: h.pread(2 ** 25 + 512, 0))',
        'fails(errno.EINVAL, lambda: h.block_status(512, 0, lambda *args: 0))',
        'assert len(h.pread(512, 0)) == 512',
        'h.shutdown()'
      ])
    })

    test('tells holes, what is local, and zeros fast where the disk can', async () => {
      const zeros = kind === 'machine' ? 'True' : 'False'
      await script([
        'h.shutdown()',
        'h = nbd.NBD()',
        'h.add_meta_context("base:allocation")',
        'h.add_meta_context("rowan:local")',
        `h.connect_uri("${disk().uri()}")`,
        'assert h.get_structured_replies_negotiated()',
        'def runs(offset, length, flags=0):',
        '    found = {}',
        '    h.block_status(length, offset, lambda name, at, entries, err: found.update({name: (at, entries)}), flags)',
        '    return found',
        'h.pwrite(b"x" * 131072, 1048576)',
        'try:',
        '    h.zero(65536, 1048576, nbd.CMD_FLAG_FAST_ZERO)',
        '    fast = True',
        'except nbd.Error as error:',
        '    assert error.errnum == errno.EOPNOTSUPP, error.errnum',
        '    fast = False',
        `assert fast == ${zeros}`,
        'h.zero(65536, 1048576)',
        'found = runs(1048576, 131072)',
        'assert set(found) == {"base:allocation", "rowan:local"}, found',
        'assert found["rowan:local"] == (1048576, [131072, 0]), found',
        'base = found["base:allocation"][1]',
        'assert base == ([65536, 3, 65536, 0] if fast else [131072, 0]), base',
        'one = runs(1048576 + 4096, 131072 - 4096, nbd.CMD_FLAG_REQ_ONE)["base:allocation"][1]',
        'assert one == ([65536 - 4096, 3] if fast else [131072 - 4096, 0]), one',
        'chunks = []',
        'def chunk(data, offset, status, err):',
        '    chunks.append((len(data), offset - 1048576, status))',
        'data = h.pread_structured(131072, 1048576, chunk)',
        'assert data == bytes(65536) + b"x" * 65536',
        'assert sorted(chunks) == ([(65536, 0, nbd.READ_HOLE), (65536, 65536, nbd.READ_DATA)] if fast else [(131072, 0, nbd.READ_DATA)]), chunks',
        'h.pread_structured(131072, 1048576, lambda *args: 0, nbd.CMD_FLAG_DF)',
        'h.cache(131072, 1048576)',
        'h.shutdown()'
      ])
    })

    test('may not write to a read-only export', async () => {
      await script(
        [
          'for call in (lambda: h.pwrite(bytes(512), 0), lambda: h.trim(512, 0), lambda: h.zero(512, 0)):',
          '    try:',
          '        call()',
          '        raise AssertionError("no error")',
          '    except nbd.Error as error:',
          '        assert error.errnum == errno.EPERM, error.errnum',
          'h.shutdown()'
        ],
        'locked'
      )
    })

    test('reads and writes single bytes where it did not ask for block sizes', async () => {
      await script([
        'h.shutdown()',
        'h = nbd.NBD()',
        'h.set_strict_mode(0)',
        'h.set_request_block_size(False)',
        `h.connect_uri("${disk().uri()}")`,
        'h.pwrite(b"rowan", 70000)',
        'assert h.pread(5, 70000) == b"rowan"',
        'assert h.pread(3, 70001) == b"owa"',
        'h.zero(2, 70001)',
        'assert h.pread(5, 70000) == b"r\\0\\0an"',
        'h.shutdown()'
      ])
    })

    test('flushes on one connection what was written on another', async () => {
      await script([
        'assert h.can_multi_conn()',
        'g = nbd.NBD()',
        `g.connect_uri("${disk().uri()}")`,
        'h.pwrite(b"y" * 512, 0)',
        'g.flush()',
        'assert g.pread(512, 0) == b"y" * 512',
        'g.shutdown()',
        'h.shutdown()'
      ])
    })
  })

  describeWithTools(`nbdfuse and a loop device, ${kind}`, ['nbdfuse', 'losetup', 'mkfs.ext4', 'debugfs'], () => {
    const disk = withDisk(kind)

    test.skipIf(!fuseCanBeHad())(
      'the disk is a file to this host’s kernel, which makes a file system on it',
      async () => {
        const { folder, uri } = disk()
        const [file, mounted, secret] = [join(folder, 'disk'), join(folder, 'mounted'), join(folder, 'secret')]
        await writeFile(file, '')
        await mkdir(mounted)
        await writeFile(secret, randomBytes(3 * MIB))
        const fuse = start('nbdfuse', [file, uri()])
        await waitUntil('the disk as a file', async () => (await stat(file)).size === SIZE_BYTES)
        try {
          const loop = (await runOk('losetup', ['--find', '--show', file])).trim()
          try {
            await runOk('mkfs.ext4', ['-q', '-E', 'nodiscard', loop])
            await runOk('mount', [loop, mounted])
            try {
              await copyFile(secret, join(mounted, 'secret'))
              await runOk('fstrim', [mounted])
            } finally {
              await runOk('umount', [mounted])
            }
          } finally {
            await runOk('losetup', ['--detach', loop])
          }
        } finally {
          await runOk('umount', [file])
          await fuse.exited
        }
        // Another client, another connection: what the kernel wrote is on the disk.
        const copy = join(folder, 'copy.raw')
        await runOk('nbdcopy', [uri(), copy])
        await runOk('e2fsck', ['-fn', copy])
        await runOk('debugfs', ['-R', `dump /secret ${join(folder, 'found')}`, copy])
        expect(await hashFile(join(folder, 'found'))).toBe(await hashFile(secret))
      }
    )
  })

  describeWithTools(`fio, ${kind}`, ['fio'], () => {
    const disk = withDisk(kind)
    const fio = async (...args: string[]) => {
      const common = [
        '--name=verify',
        '--ioengine=nbd',
        `--uri=${disk().uri()}`,
        `--size=${40 * MIB}`,
        '--verify=crc32c'
      ]
      return await runOk('fio', [...common, '--verify_fatal=1', '--randseed=42', ...args], { cwd: disk().folder })
    }

    test.each([
      ['4 KiB', ['--bs=4k', '--rw=randwrite', '--iodepth=32']],
      ['512 bytes to 128 KiB, with flushes', ['--bsrange=512-128k', '--rw=randwrite', '--iodepth=16', '--fsync=50']],
      ['1 MiB', ['--bs=1m', '--rw=write', '--iodepth=4']],
      ['8 KiB, among reads', ['--bs=8k', '--rw=randrw', '--iodepth=8', '--verify_backlog=64']]
    ])('verifies random writes of %s', async (_what, args) => {
      expect(await fio(...args)).toMatch(/err= 0/)
    })
  })
}
